"""`RLM` called as a DSPy module."""

from __future__ import annotations

import asyncio
from typing import Any

import dspy
import pytest
from dspy.primitives.code_interpreter import CodeInterpreterError, FinalOutput
from dspy.primitives.sandbox_serializable import SandboxSerializable
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import interrupt
from pydantic import BaseModel

from rlm_adapters import RLM, InputError, Limits, ThreadBusyError
from rlm_adapters.effects import drive
from rlm_adapters.graph.leases import leased
from tests.dspy.scripted import codes, playing, scripted_lm, step_of
from tests.langchain.savers import Dying, Killed


class Point(BaseModel):
    x: int
    y: int = 0


class Person(BaseModel):
    name: str
    tags: list[str]


BOOK = "line\n" * 2_000


@pytest.fixture(params=["sync", "async"])
def call(request):
    """Call a module by ``__call__`` or by ``acall``."""

    def invoke(module: Any, *args: Any, **inputs: Any) -> Any:
        if request.param == "sync":
            return module(*args, **inputs)
        return asyncio.run(module.acall(*args, **inputs))

    return invoke


def test_a_typed_answer_with_its_trajectory(call):
    rlm = RLM("context, query -> answer: int")
    with dspy.context(lm=playing("n = context.count('line')\nprint(n)", "SUBMIT(n)")) as _:
        result = call(rlm, context=BOOK, query="How many lines?")
    assert result.answer == 2_000
    assert result.trajectory == [
        {"reasoning": "step 1", "code": "n = context.count('line')\nprint(n)", "output": "2000"},
        {"reasoning": "step 2", "code": "SUBMIT(n)", "output": "FINAL: {'answer': 2000}"},
    ]
    assert result.final_reasoning == "step 2"
    assert result.rlm["finish_reason"] == "submitted"
    assert result.rlm["iterations"] == 2
    assert result.rlm["usage"]["input_tokens"] == 200, "as the LM reports"


def test_several_typed_outputs_by_position_and_by_name(call):
    rlm = RLM("numbers: list[int] -> total: int, kind: Literal['odd', 'even'], parts: list[str]")
    for cell in ("SUBMIT(sum(numbers), 'even', ['a'])", "SUBMIT(parts=['a'], kind='even', total=sum(numbers))"):
        with dspy.context(lm=playing(cell)):
            result = call(rlm, numbers=[1, 2, 3])
        assert (result.total, result.kind, result.parts) == (6, "even", ["a"])


def test_a_submission_of_the_wrong_type_goes_back_to_the_lm(call):
    rlm = RLM("query -> answer: Literal['yes', 'no']")
    lm = playing("SUBMIT('maybe')", "SUBMIT('yes')")
    with dspy.context(lm=lm):
        result = call(rlm, query="Is it?")
    assert result.answer == "yes"
    assert "[Type Error] answer" in result.trajectory[0]["output"]
    assert "[Type Error] answer" in lm.prompts[1]


def test_the_extract_predictor_answers_when_the_steps_are_used_up(call):
    rlm = RLM("query -> answer: float", max_iters=2)
    with dspy.context(lm=playing("print(1)", "print(2)", extract={"answer": "2.5"})):
        result = call(rlm, query="q")
    assert result.answer == 2.5
    assert result.final_reasoning == "Extract forced final output"
    assert result.rlm["finish_reason"] == "max_iterations"
    assert [step["output"] for step in result.trajectory] == ["1", "2"]


def test_an_error_of_a_cell_is_shown_with_what_it_had_printed(call):
    rlm = RLM("query -> answer")
    with dspy.context(lm=playing("print('before')\n1 / 0", "SUBMIT('ok')")):
        result = call(rlm, query="q")
    output = result.trajectory[0]["output"]
    assert output.startswith("before")
    assert "[Error]" in output
    assert "ZeroDivisionError" in output


def test_fences_are_stripped_and_foreign_languages_are_refused(call):
    rlm = RLM("query -> answer")
    with dspy.context(lm=playing("```bash\nls\n```", "```python\nx = 1\n```", "SUBMIT('ok')")):
        result = call(rlm, query="q")
    assert "bash" in result.trajectory[0]["output"]
    assert codes(result.trajectory)[1] == "x = 1"


def test_tools_take_positions_and_names_and_may_be_async(call):
    def plus(left: int, right: int = 1) -> int:
        """Add."""
        return left + right

    async def total(point: Point) -> dict:
        """Sum of the coordinates."""
        return {"sum": point.x + point.y}

    rlm = RLM("query -> answer: list[int]", tools=[plus, total])
    cell = "SUBMIT([plus(1), plus(2, 3), plus(left=4, right=5), total({'x': 3, 'y': 4})['sum']])"
    with dspy.context(lm=playing(cell)):
        assert call(rlm, query="q").answer == [2, 5, 9, 7]


def test_a_failing_tool_is_an_observation(call):
    def broken() -> str:
        """Fail."""
        raise RuntimeError("no service")

    rlm = RLM("query -> answer", tools=[broken])
    with dspy.context(lm=playing("broken()", "SUBMIT('went on')")):
        result = call(rlm, query="q")
    assert result.answer == "went on"
    assert "no service" in result.trajectory[0]["output"]


def test_sub_calls_go_to_the_sub_lm_and_keep_their_order(call):
    sub = scripted_lm(lambda prompt: prompt.strip().upper(), "scripted/sub")
    rlm = RLM("query -> answer: list[str]", sub_lm=sub)
    cell = "SUBMIT([llm_query('one'), *llm_query_batched(['two', 'three'])])"
    with dspy.context(lm=playing(cell)):
        result = call(rlm, query="q")
    assert result.answer == ["ONE", "TWO", "THREE"]
    assert result.rlm["usage"]["by_model"]["scripted/sub"]["calls"] == 3


def test_without_a_sub_lm_the_configured_lm_is_asked_at_the_time_of_the_call(call):
    rlm = RLM("query -> answer")
    for name in ("Ann", "Bob"):
        with dspy.context(lm=playing("SUBMIT(llm_query('who?'))", sub=lambda _, name=name: name)):
            assert call(rlm, query="q").answer == name


def test_sub_calls_are_limited_over_the_whole_run(call):
    rlm = RLM("query -> answer", max_llm_calls=3)
    cell = "for i in range(5):\n    print(llm_query(f'{i}'))"
    with dspy.context(lm=playing(cell, "SUBMIT('stopped')")):
        result = call(rlm, query="q")
    assert result.rlm["usage"]["calls"] == 3
    assert "3 sub-calls" in result.trajectory[0]["output"]


def test_a_budget_that_runs_out_is_a_labelled_prediction_and_no_crash(call):
    rlm = RLM("query -> answer", limits=Limits(max_tokens=2_500))
    with dspy.context(lm=playing(*["print('x' * 3000)"] * 20, extract={"answer": "best guess"})):
        result = call(rlm, query="q")
    assert result.rlm["finish_reason"] == "budget"
    assert result.answer in (None, "best guess")


def test_inputs_may_be_empty_none_models_bytes_and_nested(call):
    class Task(dspy.Signature):
        text: str = dspy.InputField()
        nothing: Any = dspy.InputField()
        person: Person = dspy.InputField()
        raw: bytes = dspy.InputField()
        rows: list = dspy.InputField()
        answer: list = dspy.OutputField()

    cell = "SUBMIT([text, nothing, person['tags'], raw.decode(), rows])"
    with dspy.context(lm=playing(cell)):
        result = call(RLM(Task), text="", nothing=None, person=Person(name="A", tags=["t"]), raw=b"ab", rows=[])
    assert result.answer == ["", None, ["t"], "ab", []]


def test_an_image_can_be_handed_on_to_the_sub_lm(call):
    seen = []

    def script(prompt: str) -> Any:
        if "repl_history" in prompt:
            return {"reasoning": "r", "code": "SUBMIT(llm_query(['What is it?', image]))"}
        seen.append(prompt)
        return "a cat"

    image = dspy.Image("data:image/png;base64,iVBORw0KGgo=")
    with dspy.context(lm=scripted_lm(script)):
        assert call(RLM("image: dspy.Image -> answer"), image=image).answer == "a cat"
    assert "ImagePart" in seen[0]
    assert "What is it?" in seen[0]


class Table(SandboxSerializable):
    """Rows as CSV."""

    def __init__(self, rows: list[list[int]]) -> None:
        self.rows = rows

    def sandbox_setup(self) -> str:
        return "import csv, io"

    def to_sandbox(self) -> bytes:
        return "\n".join(",".join(map(str, row)) for row in self.rows).encode()

    def sandbox_assignment(self, var_name: str, data_expr: str) -> str:
        return f"{var_name} = [[int(x) for x in row] for row in csv.reader(io.StringIO({data_expr}))]"

    def rlm_preview(self, max_chars: int = 500) -> str:
        return f"Table of {len(self.rows)} rows"[:max_chars]


def test_sandbox_serializable_inputs_are_rebuilt_in_the_sandbox(call):
    lm = playing("print(len(table))", "SUBMIT(sum(map(sum, table)))")
    with dspy.context(lm=lm):
        result = call(RLM("table, query -> answer: int"), table=Table([[1, 2], [3, 4]]), query="sum")
    assert result.answer == 10
    assert "Table of 2 rows" in lm.prompts[0]


class Interpreter:
    """A minimal dspy CodeInterpreter that finishes at once."""

    def __init__(self) -> None:
        self.tools: dict[str, Any] = {}
        self.runs: list[tuple[str, Any]] = []
        self.closed = False

    def start(self) -> None:
        pass

    def execute(self, code: str, variables: Any = None) -> Any:
        if self.closed:
            raise CodeInterpreterError("closed")
        if "_dspy" not in code:
            self.runs.append((code, variables))
        return FinalOutput({"answer": len(self.runs)}) if "SUBMIT" in code else ""

    def shutdown(self) -> None:
        self.closed = True


def test_an_interpreter_of_the_caller_stays_open(call):
    interpreter = Interpreter()
    rlm = RLM("query -> answer: int")
    with dspy.context(lm=playing("SUBMIT(1)")):
        assert call(rlm, interpreter, query="a").answer == 1
        assert call(rlm, interpreter, query="b").answer == 2
    assert interpreter.runs == [("SUBMIT(1)", {"query": "a"}), ("SUBMIT(1)", {"query": "b"})]
    assert not interpreter.closed


def test_an_interpreter_of_a_factory_is_shut_down_even_when_the_predictor_fails(call):
    made: list[Interpreter] = []

    def factory() -> Interpreter:
        made.append(Interpreter())
        return made[-1]

    def broken(**_: Any) -> Any:
        raise ValueError("no such model")

    with dspy.context(lm=playing("SUBMIT(1)"), interpreter_factory=factory):
        assert call(RLM("query -> answer: int"), query="q").answer == 1
    rlm = RLM("query -> answer", interpreter_factory=factory)
    rlm.generate_action = type("Broken", (), {"__call__": staticmethod(broken), "acall": staticmethod(broken)})()
    with dspy.context(lm=playing()), pytest.raises(ValueError, match="no such model"):
        call(rlm, query="q")
    assert [interpreter.closed for interpreter in made] == [True, True]


def test_what_the_lm_raises_reaches_the_caller_as_it_is(call):
    def script(prompt: str) -> str:
        raise dspy.lm15.AuthError("bad key")

    with dspy.context(lm=scripted_lm(script)), pytest.raises(dspy.LMError, match="bad key"):
        call(RLM("query -> answer"), query="q")


def test_a_reply_that_cannot_be_read_goes_back_to_the_lm(call):
    def script(prompt: str) -> Any:
        return {"reasoning": "r", "code": "SUBMIT('x')"} if "could not be read" in prompt else "no fields at all"

    with dspy.context(lm=scripted_lm(script)):
        result = call(RLM("query -> answer"), query="q")
    assert result.answer == "x"
    assert "could not be read" in result.trajectory[0]["output"]


def test_children_have_predictors_and_a_repl_of_their_own(call):
    def script(prompt: str) -> Any:
        if "find the owl" in prompt.rpartition("Variable: `query`")[2]:
            return {"reasoning": "child", "code": "SUBMIT(context.index('owl'))"}
        if "repl_history" not in prompt:
            return "sub"
        return {"reasoning": "root", "code": "SUBMIT(rlm_query('find the owl', context))"}

    rlm = RLM("context, query -> answer: int", max_depth=2)
    assert [name for name, _ in rlm.named_predictors()] == [
        "generate_action", "extract", "child.generate_action", "child.extract",
    ]  # fmt: skip
    assert "rlm_query" in rlm.generate_action.signature.instructions
    with dspy.context(lm=scripted_lm(script)):
        result = call(rlm, context="x" * 50 + "owl", query="where?")
    assert result.answer == 50


def test_an_rlm_answers_the_sub_calls_of_another(call):
    inner = RLM("prompt -> answer")

    def script(prompt: str) -> Any:
        if "Variable: `prompt`" in prompt:
            return {"reasoning": "inner", "code": "SUBMIT(prompt[::-1])"}
        return {"reasoning": "outer", "code": "SUBMIT(llm_query('abc'))"}

    with dspy.context(lm=scripted_lm(script)):
        assert call(RLM("query -> answer", sub_lm=inner), query="q").answer == "cba"


def test_an_rlm_works_inside_a_tool_of_react(call):
    rlm = RLM("text -> answer: int")

    def measure(text: str) -> int:
        """Length of a text."""
        return rlm(text=text).answer

    def script(prompt: str) -> Any:
        if "repl_history" in prompt:
            return {"reasoning": "r", "code": "SUBMIT(len(text))"}
        if "next_tool_name" not in prompt:
            return {"reasoning": "r", "answer": prompt.count("Observation") and "seven"}
        done = "observation_0" in prompt
        return {
            "next_thought": "t",
            "next_tool_name": "finish" if done else "measure",
            "next_tool_args": "{}" if done else '{"text": "sevench"}',
        }

    agent = dspy.ReAct("question -> answer", tools=[measure])
    with dspy.context(lm=scripted_lm(script)):
        result = call(agent, question="How long?")
    assert result.trajectory["observation_0"] == 7


def test_a_run_goes_on_in_the_middle_after_its_process_died():
    saver, calls, alive = InMemorySaver(), [], [False]

    def pay(n: int) -> int:
        """Costs money."""
        calls.append(n)
        if n == 2 and not alive[0]:
            raise KeyboardInterrupt
        return n * 10

    def fresh() -> RLM:
        return RLM("query -> answer: list[int]", tools=[pay], checkpointer=saver, store=store)

    from rlm_adapters import ContentStore

    store = ContentStore()
    with dspy.context(lm=playing("a = pay(1)\nb = pay(2)\nSUBMIT([a, b])")):
        with pytest.raises(KeyboardInterrupt):
            fresh()(query="q", thread_id="t")
        alive[0] = True
        assert fresh()(query="q", thread_id="t").answer == [10, 20]
    assert calls == [1, 2, 2], "what was answered before is not paid again"


@pytest.mark.parametrize("form", ["sync", "async"])
def test_a_thread_that_another_call_runs_is_busy(form):
    """Its lease is taken before its state is read."""
    saver = InMemorySaver()
    rlm = RLM("query -> answer: int", checkpointer=saver)

    def ask():
        return rlm(query="q", thread_id="t") if form == "sync" else asyncio.run(rlm.acall(query="q", thread_id="t"))

    with dspy.context(lm=playing("SUBMIT(1)")):
        lease = drive(leased(saver, "t", "reject"))
        with pytest.raises(ThreadBusyError, match="thread 't'"):
            ask()
        drive(lease.release())
        assert ask().answer == 1
    with pytest.raises(InputError, match="multitask_strategy='never' is unknown"):
        RLM("query -> answer", multitask_strategy="never")


def test_a_run_that_is_killed_between_any_two_writes_is_answered_once():
    calls: list[int] = []

    def pay(n: int) -> int:
        """Costs money."""
        calls.append(n)
        return n * 10

    def approve(amount: int) -> str:
        """Ask."""
        return interrupt(f"pay {amount}?")

    with dspy.context(lm=playing("a = pay(1)", "b = approve(a)", "c = approve(7)", "SUBMIT(f'{a} {b} {c}')")):
        for writes in range(50):
            saver, killed, calls[:] = Dying(), False, []
            rlm, given = RLM("query -> answer", tools=[pay, approve], checkpointer=saver), iter(("yes", "no"))
            result = rlm(query="q", thread_id="1")
            asked = list(result.rlm["interrupts"])
            saver.left = writes
            while result.answer is None:
                resume = next(given)
                try:
                    result = rlm(query="q", thread_id="1", resume=resume)
                except Killed:
                    killed, saver.left = True, None
                    result = rlm(query="q", thread_id="1", resume=resume)
                if (waits := result.rlm.get("interrupts", asked[-1:])) != asked[-1:]:
                    asked += waits
            assert result.answer == "10 yes no", (writes, asked)
            assert calls == [1], "what was answered before is not paid again"
            if not killed:
                break
    assert writes > 3
    assert not killed


def test_a_tool_may_ask_a_human(call):
    def approve(amount: int) -> str:
        """Ask."""
        return interrupt(f"pay {amount}?")

    rlm = RLM("query -> answer", tools=[approve], checkpointer=InMemorySaver())
    with dspy.context(lm=playing("SUBMIT(approve(5))")):
        asked = call(rlm, query="q", thread_id="1")
        assert asked.rlm["finish_reason"] == "interrupted"
        assert asked.rlm["interrupts"] == ["pay 5?"]
        assert asked.answer is None
        assert call(rlm, query="q", thread_id="1", resume="yes").answer == "yes"


def test_bad_calls_say_what_is_wrong():
    rlm = RLM("context, query -> answer")
    with pytest.raises(ValueError, match="Missing required inputs"):
        rlm(context="x")
    with pytest.raises(ValueError, match="Unexpected inputs"):
        rlm(context="x", query="q", more=1)
    with pytest.raises(ValueError, match="checkpointer"):
        rlm(context="x", query="q", thread_id="1")
    with pytest.raises(ValueError, match="conflict"):
        RLM("query -> rlm")
    with pytest.raises(ValueError, match="conflict"):
        RLM("rlm_query -> answer")


def test_steps_are_counted_in_the_prompt_as_dspy_does():
    lm = playing("print(1)", "SUBMIT('x')")
    with dspy.context(lm=lm):
        RLM("query -> answer", max_iters=7)(query="q")
    assert [step_of(prompt) for prompt in lm.prompts] == [0, 1]
    assert "2/7" in lm.prompts[1]


def test_cells_can_be_approved_by_a_person_or_a_function(call):
    rlm = RLM("query -> answer", approve="cells", checkpointer=InMemorySaver())
    with dspy.context(lm=playing("SUBMIT('done')")):
        asked = call(rlm, query="q", thread_id="1")
        assert asked.rlm["finish_reason"] == "interrupted"
        assert asked.rlm["interrupts"][0]["action_requests"][0]["args"] == {"code": "SUBMIT('done')"}
        assert call(rlm, query="q", thread_id="1", resume="approve").answer == "done"
    seen = []
    judged = RLM("query -> answer", approve=lambda request: seen.append(request.code) or True)
    with dspy.context(lm=playing("SUBMIT('done')")):
        assert call(judged, query="q").answer == "done"
    assert seen == ["SUBMIT('done')"]
    with pytest.raises(InputError, match="approve='cell' is unknown"):
        RLM("query -> answer", approve="cell")
