"""DSPy's wrappers of modules, and its adapters, around `RLM`."""

from __future__ import annotations

import json

import dspy
import pytest

from rlm_adapters import RLM
from tests.dspy.scripted import fields_text, scripted_lm

CELL = "SUBMIT(len(query))"


@pytest.mark.parametrize("adapter", [dspy.ChatAdapter, dspy.JSONAdapter, dspy.XMLAdapter], ids=lambda one: one.__name__)
def test_any_adapter_renders_and_reads_the_steps(adapter):
    """Two steps, so that the history goes through the adapter as well."""

    def script(prompt):
        fields = {"reasoning": "r", "code": CELL if "=== Step 1" in prompt else "print('so far')"}
        if adapter is dspy.JSONAdapter:
            return json.dumps(fields)
        if adapter is dspy.XMLAdapter:
            return "\n".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
        return fields

    with dspy.context(lm=scripted_lm(script), adapter=adapter()):
        result = RLM("query -> answer: int")(query="four")
    assert result.answer == 4
    assert result.trajectory[0]["output"] == "so far"


def test_a_two_step_adapter_has_its_reading_lm():
    """The first LM writes freely, the second one extracts the fields."""
    free = scripted_lm(lambda prompt: f"I would run {CELL} now.")
    reader = scripted_lm(lambda prompt: {"reasoning": "r", "code": CELL})
    with dspy.context(lm=free, adapter=dspy.TwoStepAdapter(extraction_model=reader)):
        assert RLM("query -> answer: int")(query="four").answer == 4


def choosing(prompt):
    """Gets better only by the advice that Refine gives."""
    if "repl_history" in prompt and "[[ ## code ## ]]" in prompt:
        return {"reasoning": "r", "code": "SUBMIT('good')" if "write good" in prompt else "SUBMIT('poor')"}
    if "advice" in prompt:
        return fields_text(
            {"discussion": "d", "advice": json.dumps({"generate_action": "write good", "extract": "N/A"})}
        )
    return {"answer": "?"}


def reward(inputs, prediction):
    return float(prediction.answer == "good")


def test_refine_gives_its_advice_to_the_action_step():
    with dspy.context(lm=scripted_lm(choosing)):
        refined = dspy.Refine(module=RLM("query -> answer"), N=3, reward_fn=reward, threshold=1.0)
        assert refined(query="q").answer == "good"


def test_best_of_n_takes_the_best_run():
    seen = []

    def script(prompt):
        seen.append(prompt)
        return {"reasoning": "r", "code": f"SUBMIT('{'good' if len(seen) == 2 else 'poor'}')"}

    with dspy.context(lm=scripted_lm(script)):
        assert dspy.BestOfN(RLM("query -> answer"), N=3, reward_fn=reward, threshold=1.0)(query="q").answer == "good"
    assert len(seen) == 2


def test_parallel_runs_pairs_of_module_and_inputs():
    rlm = RLM("query -> answer: int")
    with dspy.context(lm=scripted_lm(lambda prompt: {"reasoning": "r", "code": CELL})):
        results = dspy.Parallel(num_threads=4)([(rlm, {"query": "x" * n}) for n in range(1, 9)])
    assert [result.answer for result in results] == list(range(1, 9))


def test_the_history_of_the_module_is_that_of_its_calls():
    lm = scripted_lm(lambda prompt: {"reasoning": "r", "code": CELL})
    rlm = RLM("query -> answer: int")
    with dspy.context(lm=lm):
        rlm(query="four")
    assert len(rlm.history) == len(rlm.generate_action.history) == len(lm.history) == 1
