"""`RestrictedPythonInterpreter`, on its own and under DSPy's modules.

The cases are those of DSPy's own suites for its local and its Deno interpreter, in our words, as far as they concern
the interface (`test_dspys_own_suites.py` runs the originals where they can be had).
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from typing import NamedTuple

import dspy
import pytest
from dspy.primitives.code_interpreter import CodeExecutionError, CodeInterpreter, CodeInterpreterError, FinalOutput
from dspy.utils.callback import BaseCallback
from dspy.utils.dummies import DummyLM
from pydantic import BaseModel

from rlm_adapters import RestrictedPythonInterpreter
from tests.dspy.scripted import playing


@pytest.fixture
def interpreter():
    with RestrictedPythonInterpreter() as interpreter:
        yield interpreter


def add(left: int, right: int = 1) -> int:
    return left + right


def test_it_is_a_code_interpreter():
    assert isinstance(RestrictedPythonInterpreter(), CodeInterpreter)


def test_code_runs_in_another_process_that_keeps_its_state(interpreter, capsys):
    interpreter.execute("remembered = 41")
    assert interpreter.execute("remembered + 1") == 42
    assert interpreter.execute("print('inside only')") == "inside only"
    assert interpreter.execute("import os\nos.getpid()") != os.getpid()
    assert not capsys.readouterr().out


@pytest.mark.parametrize(
    ("code", "value"),
    [
        ("1 + 1", 2),
        ("'é' + 'x'", "éx"),
        ("1, 'two', [3.5]", [1, "two", [3.5]]),
        ("(1 +\n 2)  # comment", 3),
        ("x = 1; {'a': x}", {"a": 1}),
        ("(i * i for i in range(3)) and [i for i in range(3)]", [0, 1, 2]),
        ("x = 5", None),
        ("None", None),
        ("print('shown')\nNone", "shown"),
        ("print('hidden')\n7", 7),
        ("", None),
    ],
)
def test_the_last_expression_is_the_typed_result(interpreter, code, value):
    assert interpreter.execute(code) == value


def test_tools_take_positional_and_keyword_arguments():
    with RestrictedPythonInterpreter(tools={"add": add, "named": lambda *, left, right: left + right}) as interpreter:
        assert interpreter.execute("add(19, 23), add(1), add(left=2, right=3), named(left=1, right=1)") == [42, 2, 5, 2]
        with pytest.raises(CodeExecutionError, match="missing"):
            interpreter.execute("add()")


def test_async_tools_are_awaited_with_the_context_of_the_caller():
    marker = contextvars.ContextVar("marker", default="lost")
    marker.set("kept")

    async def read(suffix: str) -> str:
        await asyncio.sleep(0)
        return marker.get() + suffix

    with RestrictedPythonInterpreter(tools={"read": read}, execution_timeout=30) as interpreter:
        assert interpreter.execute("read('!')") == "kept!"


async def test_async_tools_work_under_a_running_loop():
    async def read() -> str:
        return "inside"

    with RestrictedPythonInterpreter(tools={"read": read}) as interpreter:
        assert interpreter.execute("read()") == "inside"


class Address(BaseModel):
    city: str


class Point(NamedTuple):
    x: int
    y: int


def test_values_keep_their_json_types_both_ways():
    tools = {"models": lambda: [Address(city="Bern")], "point": lambda: Point(1, 2), "nothing": lambda: None}
    with RestrictedPythonInterpreter(tools=tools) as interpreter:
        given = {"a": Address(city="Rome"), "b": [1, 2.5, None, True], "c": {"k": ("t",)}, "d": b"raw"}
        assert interpreter.execute("[a['city'], b, c, d.decode()]", given) == [
            "Rome", [1, 2.5, None, True], {"k": ["t"]}, "raw",
        ]  # fmt: skip
        assert interpreter.execute("[models(), point(), nothing()]") == [[{"city": "Bern"}], {"x": 1, "y": 2}, None]


def test_variables_may_come_and_change_later(interpreter):
    assert interpreter.execute("x", {"x": 1}) == 1
    assert interpreter.execute("x + y", {"x": 1, "y": 10}) == 11
    assert interpreter.execute("x + y", {"x": 2, "y": 10}) == 12
    assert interpreter.execute("len(big)", {"big": "z" * 2_000_000}) == 2_000_000


def test_typed_submissions():
    fields = [{"name": "answer", "type": "str"}, {"name": "score", "type": "int"}]
    with RestrictedPythonInterpreter(output_fields=fields) as interpreter:
        for code in ("SUBMIT('yes', 42)", "SUBMIT(answer='yes', score=42)", "SUBMIT('yes', score=42)"):
            assert interpreter.execute(code) == FinalOutput({"answer": "yes", "score": 42})
        with pytest.raises(CodeExecutionError, match="score"):
            interpreter.execute("SUBMIT('yes')")
    with RestrictedPythonInterpreter() as interpreter:
        assert interpreter.execute("SUBMIT([1])") == FinalOutput({"output": [1]})


def test_tools_and_fields_may_change_without_losing_the_session(interpreter):
    interpreter.execute("kept = 5")
    interpreter.tools["add"] = add
    interpreter.output_fields = [{"name": "total"}]
    assert interpreter.execute("SUBMIT(add(kept))") == FinalOutput({"total": 6})
    del interpreter.tools["add"]
    with pytest.raises(CodeExecutionError, match="Unknown tool"):
        interpreter.execute("add(1)")


def test_code_errors_are_recoverable(interpreter):
    with pytest.raises(SyntaxError):
        interpreter.execute("if")
    with pytest.raises(CodeExecutionError, match="ZeroDivisionError") as caught:
        interpreter.execute("print('before')\n1 / 0")
    assert "before" in str(caught.value)
    assert "$echo" not in str(caught.value)
    assert interpreter.execute("6 * 7") == 42


def test_a_failing_tool_can_be_caught_in_the_code():
    def broken() -> None:
        raise LookupError("no such row")

    with RestrictedPythonInterpreter(tools={"broken": broken}) as interpreter:
        assert "no such row" in interpreter.execute("try:\n    broken()\nexcept Exception as e:\n    m = str(e)\nm")
        with pytest.raises(CodeExecutionError, match="no such row"):
            interpreter.execute("broken()")


def test_a_time_out_ends_the_session():
    interpreter = RestrictedPythonInterpreter(execution_timeout=0.2)
    with pytest.raises(CodeInterpreterError, match="exceeded execution timeout"):
        interpreter.execute("while True: pass")
    with pytest.raises(CodeInterpreterError, match="shut down"):
        interpreter.execute("1")
    interpreter.shutdown()


def test_a_time_out_does_not_wait_for_a_tool_that_hangs():
    begun, go_on = threading.Event(), threading.Event()

    def hang() -> None:
        begun.set()
        go_on.wait(60)

    interpreter = RestrictedPythonInterpreter(tools={"hang": hang}, execution_timeout=2)
    with pytest.raises(CodeInterpreterError, match="exceeded execution timeout"):
        interpreter.execute("hang()")
    assert begun.is_set()
    go_on.set()


@pytest.mark.parametrize("name", ["not-valid", "class", "SUBMIT", "__builtins__"])
def test_unusable_names_are_refused_and_cost_no_session(name):
    with pytest.raises(ValueError, match="invalid names"):
        RestrictedPythonInterpreter(tools={name: add})
    interpreter = RestrictedPythonInterpreter(tools={"add": add})
    for variables in ({name: 1}, {"add": 1}):
        with pytest.raises(CodeInterpreterError, match="invalid names"):
            interpreter.execute("1", variables)
    assert interpreter.execute("6 * 7") == 42
    interpreter.shutdown()


def test_values_that_have_no_json_form_are_refused(interpreter):
    with pytest.raises(CodeInterpreterError, match="'x'"):
        interpreter.execute("x", {"x": object()})


def test_the_code_cannot_break_what_the_interpreter_owns():
    with RestrictedPythonInterpreter(tools={"add": add}) as interpreter:
        for attack in ("__builtins__['len'] = None", "import builtins\nbuiltins.len = None"):
            with pytest.raises((CodeExecutionError, SyntaxError)):
                interpreter.execute(attack)
        assert interpreter.execute("len([add(1)])") == 1


def test_it_does_not_run_two_things_at_once():
    with RestrictedPythonInterpreter() as interpreter:
        interpreter.tools["again"] = lambda: interpreter.execute("1")
        with pytest.raises(CodeExecutionError, match="cannot execute recursively"):
            interpreter.execute("again()")


def test_callbacks_see_executions_and_tool_calls():
    events = []

    class Recorder(BaseCallback):
        def on_interpreter_execute_start(self, call_id, instance, inputs):
            events.append(("execute", inputs["code"]))

        def on_interpreter_tool_call_end(self, call_id, outputs, exception=None):
            events.append(("tool", outputs))

        def on_interpreter_execute_end(self, call_id, outputs, exception=None):
            events.append(("end", outputs))

    with RestrictedPythonInterpreter(tools={"answer": lambda: 42}, callbacks=[Recorder()]) as interpreter:
        interpreter.execute("answer()")
    assert events == [("execute", "answer()"), ("tool", 42), ("end", 42)]


def test_dspys_own_rlm_runs_on_it():
    def plus(left: int, right: int) -> int:
        """Add."""
        return left + right

    rlm = dspy.RLM("numbers: list[int] -> total: int", tools=[plus], interpreter_factory=RestrictedPythonInterpreter)
    assert RestrictedPythonInterpreter.execution_instructions in rlm.generate_action.signature.instructions
    lm = playing("x = plus(numbers[0], right=numbers[1])\nprint(x)", "SUBMIT(x + len(llm_query('ab')))")
    with dspy.context(lm=lm):
        result = rlm(numbers=[1, 2])
    assert result.total == 3 + len("answer to: ab")
    assert result.trajectory[0]["output"] == "3"


def test_dspy_configure_makes_it_the_interpreter_of_every_module():
    with dspy.context(interpreter_factory=RestrictedPythonInterpreter, lm=playing("SUBMIT(query + '!')")):
        assert dspy.RLM("query -> answer")(query="hi").answer == "hi!"


def test_program_of_thought_runs_on_it():
    lm = DummyLM([
        {"reasoning": "r", "generated_code": "```python\nresult = 1 + 1\nSUBMIT({'answer': result})\n```"},
        {"reasoning": "r", "answer": "2"},
    ])  # fmt: skip
    with dspy.context(lm=lm):
        program = dspy.ProgramOfThought("question -> answer", interpreter_factory=RestrictedPythonInterpreter)
        assert program(question="1 + 1?").answer == "2"


def triple(n: int) -> int:
    """Three times a number."""
    return n * 3


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_code_act_runs_on_it():
    lm = DummyLM([
        {"generated_code": "result = triple(7)\nprint(result)", "finished": True},
        {"reasoning": "r", "answer": "21"},
    ])  # fmt: skip
    with dspy.context(lm=lm):
        program = dspy.CodeAct("question -> answer", tools=[triple], interpreter_factory=RestrictedPythonInterpreter)
        result = program(question="3 * 7?")
    assert result.answer == "21"
    assert "21" in str(result.trajectory)
