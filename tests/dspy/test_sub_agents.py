"""``import dspy`` in cells: sub-agents described by the cell and run by the host."""

from __future__ import annotations

import asyncio

import dspy
import pytest
from langgraph.checkpoint.memory import InMemorySaver

from rlm_adapters import RLM, ContentStore, Limits, RestrictedPythonInterpreter
from tests.dspy.scripted import scripted_lm, step_of


def look_up(key: str) -> str:
    """Look a key up."""
    return f"value of {key}"


def lm_of(*cells):
    """A root LM with these cells; sub-agents get fixed fields, and an RLM among them one cell."""

    def script(prompt):
        if "repl_history" in prompt and "[[ ## code ## ]]" not in prompt:
            return {"answer": "best guess"}
        if "`query`" in prompt and "repl_history" in prompt:
            return {"reasoning": "r", "code": cells[step_of(prompt)]}
        if "repl_history" in prompt:
            return {"reasoning": "inner", "code": "SUBMIT(len(text))"}
        if "next_tool_name" in prompt:
            done = "observation_0" in prompt
            return {
                "next_thought": "t",
                "next_tool_name": "finish" if done else "look_up",
                "next_tool_args": "{}" if done else '{"key": "k"}',
            }
        if "observation_0" in prompt:
            return {"reasoning": "r", "answer": prompt.partition("[[ ## observation_0 ## ]]")[2].split("\n")[1]}
        return {"number": "7", "word": "seven"}

    return scripted_lm(script)


def ours(**options):
    return RLM("query -> answer", tools=[look_up], sub_agents=True, **options)


def theirs(**options):
    return dspy.RLM("query -> answer", tools=[look_up], interpreter_factory=RestrictedPythonInterpreter, **options)


@pytest.fixture(params=["ours", "ours async", "dspy.RLM on our interpreter"])
def run(request):
    """Run one cell after the other and give what they printed."""

    def play(*cells, **options):
        program = theirs(**options) if request.param.startswith("dspy") else ours(**options)
        with dspy.context(lm=lm_of(*cells, "SUBMIT('end')")):
            wanted = request.param.endswith("async")
            result = asyncio.run(program.acall(query="q")) if wanted else program(query="q")
        return [step["output"] for step in result.trajectory[:-1]]

    return play


def test_a_typed_sub_agent_gives_its_fields_by_attribute_and_by_key(run):
    cell = "import dspy\nr = dspy.Predict('page -> number: int, word')(page='x')\nprint(r.number + 1, r['word'], r)"
    assert run(cell) == ["8 seven Prediction({'number': 7, 'word': 'seven'})"]


def test_names_can_be_imported_and_kept_for_later_cells(run):
    first = "from dspy import Predict, Signature\nask = Predict(Signature('page -> number: int', 'Count.'))"
    assert run(first, "print(ask(page='x').number)")[1] == "7"


def test_a_sub_agent_may_be_an_rlm_with_a_repl_of_its_own(run):
    assert run("print(dspy.RLM('text -> n: int')(text='abcd').n)") == ["4"]


def test_a_sub_agent_may_use_the_tools_of_the_module(run):
    assert run("print(dspy.ReAct('q -> answer', tools=[look_up])(q='x').answer)") == ["value of k"]


def test_a_module_class_works_in_the_cell(run):
    cell = (
        "class Count(dspy.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.step = dspy.Predict('page -> number: int')\n"
        "    def forward(self, page):\n"
        "        return dspy.Prediction(result=self.step(page=page).number)\n"
        "print(Count()(page='x').result)"
    )
    assert run(cell) == ["7"]


def test_the_cell_cannot_choose_the_lm(run):
    (output,) = run("try:\n    dspy.Predict('a -> number', lm='other')(a=1)\nexcept RuntimeError as e:\n    print(e)")
    assert "may not set LM option" in output


def test_functions_of_the_cell_cannot_be_handed_over(run):
    (output,) = run(
        "def own(): pass\ntry:\n    dspy.ReAct('q -> a', tools=[own])(q=1)\nexcept RuntimeError as e:\n    print(e)"
    )
    assert "own" in output
    assert "not provided" in output


def test_calls_of_sub_agents_count_against_the_limit(run):
    cell = (
        "ask = dspy.Predict('page -> number: int')\n"
        "for i in range(5):\n"
        "    try:\n"
        "        ask(page=str(i))\n"
        "    except RuntimeError:\n"
        "        print('refused', i)"
    )
    assert run(cell, max_llm_calls=3) == ["refused 3\nrefused 4"]


def test_their_tokens_are_the_runs_tokens():
    with dspy.context(lm=lm_of("dspy.Predict('page -> number: int')(page='x')", "SUBMIT('end')")):
        usage = ours()(query="q").rlm["usage"]
        assert (usage["calls"], usage["root_calls"], usage["input_tokens"]) == (1, 2, 300)
        limited = ours(limits=Limits(max_tokens=2_500))
    cells = ["for i in range(30):\n    dspy.Predict('page -> number: int')(page='x')", "SUBMIT('end')"]
    with dspy.context(lm=lm_of(*cells)):
        assert limited(query="q").rlm["usage"]["input_tokens"] <= 2_500


def test_they_are_offered_when_asked_for_and_cost_nothing_otherwise():
    plain = RLM("query -> answer")
    assert "Sub-agents" not in plain.generate_action.signature.instructions
    assert "Sub-agents" in ours().generate_action.signature.instructions
    with dspy.context(lm=lm_of("import dspy", "SUBMIT('end')")):
        assert "ModuleNotFoundError" in plain(query="q").trajectory[0]["output"]


def test_a_child_run_has_sub_agents_of_its_own():
    def script(prompt):
        if "repl_history" not in prompt:
            return {"word": "seven"} if "`word`" in prompt else {"number": "7"}
        if "in the part" in prompt.rpartition("Variable: `query`")[2]:
            return {"reasoning": "child", "code": "SUBMIT(dspy.Predict('page -> word')(page='x').word)"}
        cell = (
            "ask = dspy.Predict('page -> number: int')\n"
            "own, part = ask(page='x').number, rlm_query('in the part', 'text')\n"
            "SUBMIT([own, part, ask(page='y').number])"
        )
        return {"reasoning": "root", "code": cell}

    with dspy.context(lm=scripted_lm(script)):
        result = RLM("query -> answer: list", max_depth=2, sub_agents=True)(query="q")
    assert result.answer == [7, "seven", 7]


def test_a_resumed_run_goes_on_with_its_sub_agents():
    """The host side of the agents died with the process; the namespace, which holds them, is rebuilt."""
    saver, store, alive = InMemorySaver(), ContentStore(), []

    def fragile() -> str:
        """Kills the process once."""
        if not alive:
            raise KeyboardInterrupt
        return "there"

    def fresh():
        return RLM("query -> answer", tools=[fragile], sub_agents=True, checkpointer=saver, store=store)

    cells = ["ask = dspy.Predict('page -> number: int')\nfirst = ask(page='x').number", "fragile()",
             "SUBMIT(str(first + ask(page='y').number))"]  # fmt: skip
    lm = lm_of(*cells)
    with dspy.context(lm=lm):
        with pytest.raises(KeyboardInterrupt):
            fresh()(query="q", thread_id="t")
        before = len(lm.prompts)
        alive.append(True)
        assert fresh()(query="q", thread_id="t").answer == "14"
    assert len(lm.prompts) - before == 2, "one step and one question: the first answer was not paid again"


def test_flex_runs_on_the_interpreter():
    source = (
        "class Add(dspy.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.solve = dspy.Predict('value: int -> number: int')\n"
        "    def forward(self, **inputs):\n"
        "        return dspy.Prediction(number=self.solve(value=inputs['value']).number)"
    )
    program = dspy.Flex("value: int -> number: int", interpreter_factory=RestrictedPythonInterpreter)
    program._bind_code(source)
    with dspy.context(lm=lm_of()):
        assert program(value=20).number == 7
