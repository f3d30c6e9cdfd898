"""`RLM` on the executors of the engine."""

from __future__ import annotations

import asyncio

import cloudpickle
import dspy
import pytest

from rlm_adapters import RLM, InputError, Sandbox, SandboxLimits
from tests.dspy.scripted import playing, scripted_lm

CELLS = ("total = sum(numbers)\nprint(total)", "SUBMIT([total, llm_query('say hi')])")


@pytest.fixture(params=["sync", "async"])
def answer(request):
    def ask(program):
        with dspy.context(lm=playing(*CELLS, sub=lambda _: "hi")):
            if request.param == "sync":
                return program(numbers=[1, 2, 3]).answer
            return asyncio.run(program.acall(numbers=[1, 2, 3])).answer

    return ask


def test_monty_is_named_by_its_string_and_stays_with_copies(answer):
    pytest.importorskip("pydantic_monty")
    rlm = RLM("numbers: list[int] -> answer: list", sandbox="monty")
    for program in (rlm, rlm.deepcopy(), cloudpickle.loads(cloudpickle.dumps(rlm))):
        assert type(program._runtime.sandbox).__name__ == "MontySandbox"
        assert answer(program) == [6, "hi"]


def test_a_sandbox_of_the_caller_is_used(answer):
    with Sandbox(limits=SandboxLimits(wall_seconds=5)) as sandbox:
        assert answer(RLM("numbers: list[int] -> answer: list", sandbox=sandbox)) == [6, "hi"]


def test_another_string_is_refused():
    with pytest.raises(InputError, match="monty"):
        RLM("query -> answer", sandbox="docker")


def test_sub_agents_need_an_executor_with_classes():
    with pytest.raises(InputError, match="classes"):
        RLM("query -> answer", sandbox="monty", sub_agents=True)


def test_a_caller_who_brings_nothing_shares_one_sandbox_with_all_others():
    one, other = RLM("query -> answer"), RLM("question -> reply")
    assert one._runtime.sandbox is other._runtime.sandbox


def test_a_short_limit_of_the_sandbox_is_an_observation():
    with Sandbox(limits=SandboxLimits(cpu_seconds=1)) as sandbox:
        rlm = RLM("query -> answer", sandbox=sandbox)
        with dspy.context(lm=playing("while True: pass", "SUBMIT('went on')")):
            result = rlm(query="q")
    assert result.answer == "went on"
    assert "[Error]" in result.trajectory[0]["output"]


def test_the_lm_is_told_of_no_other_interpreter():
    lm = scripted_lm(lambda prompt: {"reasoning": "r", "code": "SUBMIT('x')"})
    with dspy.context(lm=lm):
        RLM("query -> answer")(query="q")
    assert lm.prompts[0].count("Execution environment:") == 1
