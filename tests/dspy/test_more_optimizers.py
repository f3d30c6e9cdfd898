"""Optimizers beside those of the example, on a task whose right way must be learned: by a demo or by the instruction."""

from __future__ import annotations

import json
import re

import dspy
import pytest

from rlm_adapters import RLM, Limits, gepa_metric
from tests.dspy.scripted import fields_text, playing, scripted_lm, step_of

RULE = "Count line by line, never words."
LOOK, NAIVE = "print(context[:20])", "SUBMIT(context.count('owl'))"
RIGHT = "SUBMIT(sum('owl' in line for line in context.splitlines()))"


def owls(count):
    lines = ["an owl is an owl"] * count + ["a mouse"] * 3
    return dspy.Example(context="\n".join(lines), query=f"How many lines have owls? ({count})", answer=count)


EXAMPLES = [owls(count).with_inputs("context", "query") for count in range(1, 7)]


def metric(example, prediction, trace=None):
    return prediction.answer == example.answer


def student(prompt):
    """Looks first; then counts rightly only when it was told how, or shown."""
    if "[[ ## code ## ]]" not in prompt:
        return {"answer": "0"}
    if step_of(prompt) == 0:
        return {"reasoning": "look", "code": LOOK}
    taught = RULE in prompt or "for line in context" in prompt
    return {"reasoning": "count", "code": RIGHT if taught else NAIVE}


def teacher(prompt):
    """Solves the task, and writes the instruction when an optimizer asks for something."""
    if "repl_history" in prompt and "[[ ## code ## ]]" in prompt:
        return {"reasoning": "count", "code": LOOK if step_of(prompt) == 0 else RIGHT}
    if "module_advice" in prompt:  # SIMBA
        return {"discussion": "d", "module_advice": json.dumps({"generate_action": RULE})}
    fields = re.findall(r"\[\[ ## (\w+) ## \]\]", prompt.rpartition("Respond with")[2])
    return fields_text({name: RULE for name in fields if name != "completed"})


@pytest.fixture
def program():
    dspy.configure(lm=scripted_lm(student))
    yield RLM("context, query -> answer: int", max_iters=4)
    dspy.configure(lm=None)


def score(program):
    return dspy.Evaluate(devset=EXAMPLES, metric=metric, num_threads=4)(program).score


def test_demos_are_whole_trajectories(program):
    teleprompter = dspy.BootstrapFewShot(
        metric=metric, max_bootstrapped_demos=2, max_labeled_demos=0, teacher_settings={"lm": scripted_lm(teacher)}
    )
    assert score(program) < 20
    compiled = teleprompter.compile(program, trainset=EXAMPLES)
    assert score(compiled) == 100
    demos = compiled.generate_action.demos
    assert [demo.code for demo in demos] == [RIGHT, RIGHT]
    assert all(len(demo.repl_history) == 1 for demo in demos), "the look before stands in it"
    lm = dspy.settings.lm
    compiled(**EXAMPLES[0].inputs())
    assert lm.prompts[-1].count(LOOK) == 3, "once in each demo, once in the run itself"


def test_bootstrap_with_random_search(program):
    optimizer = dspy.BootstrapFewShotWithRandomSearch(
        metric=metric, max_bootstrapped_demos=1, max_labeled_demos=0, num_candidate_programs=2, num_threads=4,
        teacher_settings={"lm": scripted_lm(teacher)},
    )  # fmt: skip
    assert score(optimizer.compile(program, trainset=EXAMPLES, valset=EXAMPLES)) == 100


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_copro(program):
    optimizer = dspy.COPRO(metric=metric, prompt_model=scripted_lm(teacher), breadth=2, depth=1)
    compiled = optimizer.compile(program, trainset=EXAMPLES, eval_kwargs={"num_threads": 4, "display_progress": False})
    assert score(compiled) == 100
    assert RULE in compiled.generate_action.signature.instructions


@pytest.mark.parametrize("demos", [0, 2], ids=["rules", "demos"])
def test_simba(program, demos):
    optimizer = dspy.SIMBA(
        metric=metric, bsize=4, num_candidates=3, max_steps=3, max_demos=demos, num_threads=4,
        prompt_model=scripted_lm(teacher), teacher_settings={"lm": scripted_lm(teacher)},
    )  # fmt: skip
    compiled = optimizer.compile(program, trainset=EXAMPLES, seed=1)
    assert score(compiled) == 100


def test_the_wording_of_sub_calls_is_tuned_by_itself():
    """Only the sub-LM is at fault here: the demos of its own predictor mend it."""

    def sub(prompt):
        return {"answer": "LOUD" if "Example" in prompt or "shown" in prompt else "quiet"}

    def script(prompt):
        if "repl_history" in prompt:
            return {"reasoning": "r", "code": "SUBMIT(llm_query('Be loud'))"}
        return sub(prompt)

    rlm = RLM("query -> answer", sub_call=True)
    with dspy.context(lm=scripted_lm(script)):
        assert rlm(query="q").answer == "quiet"
        loud = scripted_lm(lambda prompt: script(prompt) if "repl_history" in prompt else {"answer": "LOUD shown"})
        optimizer = dspy.BootstrapFewShot(
            metric=lambda e, p, trace=None: "LOUD" in p.answer, max_bootstrapped_demos=1, max_labeled_demos=0,
            teacher_settings={"lm": loud},
        )  # fmt: skip
        compiled = optimizer.compile(rlm, trainset=[dspy.Example(query="q").with_inputs("query")])
        assert [demo.answer for demo in compiled.sub_call.demos] == ["LOUD shown"]
        assert compiled(query="q").answer == "LOUD"


def test_feedback_for_gepa_tells_the_steps_the_end_and_the_cost():
    judge = gepa_metric(lambda example, prediction: 1.0, cost_weight=0.001)
    with dspy.context(lm=playing("print('seen')", "SUBMIT(llm_query('x'))")):
        prediction = RLM("query -> answer")(query="q")
    told = judge(dspy.Example(), prediction, None, "generate_action", None)
    assert told.score == pytest.approx(1.0 - 0.001 * 0.33)
    for part in ("ended by submitted", "1 sub-calls", "300 input tokens", "Step 1: step 1", "print('seen')", "seen"):
        assert part in told.feedback


def test_a_run_without_an_answer_scores_nothing_and_is_no_crash():
    limited = RLM("query -> answer", limits=Limits(max_tokens=300))
    with dspy.context(lm=playing("print('x' * 3000)", "SUBMIT('never')", extract={"answer": "guess"})):
        prediction = limited(query="q")
    assert (prediction.answer, prediction.rlm["finish_reason"]) == (None, "budget")
    told = gepa_metric(lambda example, prediction: len(prediction.answer))(dspy.Example(), prediction)
    assert told.score == 0
    assert "ended by budget" in told.feedback
