"""The devset: a prompt that is optimised on the train half of the seeds is judged on the held-out half."""

import re

import dspy
import pytest

from rlm_adapters import RLM, ChatRLM
from rlm_adapters.dspy.feedback import gepa_metric
from rlm_adapters.errors import InputError
from rlm_adapters.evaluation import FAMILIES, aevaluate, devset, metric, tasks_of
from tests.dspy.scripted import fields_text
from tests.server import cell, question_text

SOLVED = "import re\nSUBMIT(re.findall(r'magic numbers for {city} is: (\\d+)', context)[0])"
NAIVE = "SUBMIT(context[:40])"


def city(messages):
    return re.findall(r"magic number for (\w+) ", question_text(messages))[-1]


def act(code):
    return fields_text({"reasoning": "I search.", "code": code})


def teacher(messages, request):
    return act(SOLVED.format(city=city(messages)))


def student(messages, request):
    """Solves a task only when a demo has shown how."""
    prompt = "\n".join(str(message.get("content")) for message in messages)
    if "re.findall(r'magic" in prompt:
        return teacher(messages, request)
    return act(NAIVE) if "[[ ## " in prompt else cell(NAIVE)


def test_the_two_halves_have_nothing_in_common():
    train, held_out = devset(["s_niah"], samples=20), devset(["s_niah"], samples=20, split="held_out")
    assert not {one.answer for one in train} & {one.answer for one in held_out}
    assert not {one.task for one in train} & {one.task for one in held_out}
    asked = {task.id: task.question.answer for task in tasks_of(["s_niah"], [10_000], 20)}
    assert asked == {one.task: one.answer for one in held_out}


def test_the_metric_takes_what_an_answer_field_holds():
    examples = devset()
    assert len(examples) == 3 * len(FAMILIES)
    for example in examples:
        assert set(example.inputs().keys()) == {"context", "query"}
        assert metric(example, dspy.Prediction(answer=example.answer)) == 1
        assert metric(example, dspy.Prediction(answer=str(example.answer)), None) == 1
        assert metric(example, dspy.Prediction(answer=None)) == 0
        assert metric(example, dspy.Prediction(other=3)) == 0
    assert gepa_metric(metric)(example, dspy.Prediction(answer=example.answer)).score == 1
    with pytest.raises(InputError, match=r"give an example of devset\(\)"):
        metric(dspy.Example(answer=3), dspy.Prediction(answer=3))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_an_optimised_prompt_is_better_on_tasks_that_it_has_not_seen(model_server, chat, sandbox, tmp_path):
    model_server.script("student", student)
    model_server.script("teacher", teacher)
    lm, taught = (
        dspy.LM(f"openai/{name}", api_base=model_server.url, api_key="test") for name in ("student", "teacher")
    )
    with dspy.context(lm=lm):
        program = RLM("context, query -> answer", sandbox=sandbox)
        optimizer = dspy.BootstrapFewShot(metric, teacher_settings={"lm": taught}, max_bootstrapped_demos=1)
        optimised = optimizer.compile(program, trainset=devset(["s_niah"], samples=2))
        optimised.save(tmp_path / "optimised.json")
    found = await aevaluate(
        chat("student"),
        families=["s_niah"],
        sizes=[10_000],
        samples=2,
        settings=["rlm-1", f"rlm-1@{tmp_path / 'optimised.json'}"],
        output=tmp_path / "results.jsonl",
        sandbox=sandbox,
    )
    before, after = found.figures()
    assert (before.accuracy, after.accuracy) == (0, 1)
    assert found.settings[1].name == "rlm-1@optimised.json"
    (task,) = tasks_of(["s_niah"], [10_000], 1, seed=9)
    model = ChatRLM(model=chat("student"), prompt=tmp_path / "optimised.json", sandbox=sandbox)
    message = await model.bind(context=task.question.context).ainvoke(task.question.text)
    assert message.content == str(task.question.answer)
