"""`RayProgram`: DSPy's Evaluate and GEPA with their calls on the nodes of a real cluster."""

import json
import os
from concurrent.futures import ThreadPoolExecutor

import dspy
import pytest

pytest.importorskip("ray")

from rlm_adapters import RLM, Limits, RayJob, RayProgram, gepa_metric
from rlm_adapters.errors import InputError
from rlm_adapters.sandbox import Sandbox
from tests.cluster.nodes import until
from tests.dspy.scripted import fields_text
from tests.server import question_text

pytestmark = pytest.mark.ray
ACTORS = {"actors": 2, "num_cpus": 0.3}
RULE = "Count words, never letters."
DEVSET = [dspy.Example(text="word " * number, count=number).with_inputs("text") for number in range(1, 9)]


def root(messages, request):
    code = "SUBMIT(count=len(text.split()))" if RULE in question_text(messages) else "SUBMIT(count=len(text))"
    return fields_text({"reasoning": "I count.", "code": code})


def metric(example, prediction, trace=None):
    return float(prediction.count == example.count)


@pytest.fixture
def lm(model_server):
    model_server.script("root", root)
    lm = dspy.LM("openai/root", api_base=model_server.url, api_key="test", cache=False)
    with dspy.context(lm=lm):
        yield lm


def taught():
    rlm = RLM("text -> count: int")
    rlm.generate_action.signature = rlm.generate_action.signature.with_instructions(RULE)
    return rlm


class Where(dspy.Module):
    """Says in which process it runs; it has no ``aforward``."""

    def forward(self, text):
        if text == "bad":
            raise KeyError("it is bad")
        return dspy.Prediction(process=os.getpid())


def scores(program, devset=DEVSET):
    done = dspy.Evaluate(devset=devset, metric=metric, num_threads=8, max_errors=100)(program)
    return [score for _, _, score in done.results]


@pytest.mark.slow
def test_evaluate_s_calls_run_on_the_nodes_and_give_what_they_give_here(nodes, lm, model_server):
    rlm = taught()
    with RayProgram(rlm, address=nodes.address, **ACTORS) as there, dspy.context(trace=[]):
        far = there(text="one two")
        here = rlm(text="one two")
        first, second = dspy.settings.trace
        assert (first[0], first[1].keys()) == (second[0], second[1].keys()) == (rlm.generate_action, second[1].keys())
        assert far.toDict().keys() == here.toDict().keys()
        assert (far.count, far.trajectory, far.rlm["usage"]["root_calls"]) == (2, here.trajectory, 1)
        assert scores(there) == [1.0] * 8
    with RayProgram(Where(), address=nodes.address, **ACTORS) as there:
        assert there(text="where").process != os.getpid()
        with pytest.raises(KeyError, match="it is bad"):
            there(text="bad")
    assert lm.history, "of the call here"


def test_one_budget_and_a_second_start_that_makes_no_call_again(nodes, lm, model_server, tmp_path):
    output = tmp_path / "calls.jsonl"
    with (
        RayJob(output, max_calls=5, address=nodes.address) as job,
        RayProgram(taught(), job=job, address=nodes.address, **ACTORS) as there,
    ):
        assert sum(scores(there)) == 5
        assert len(model_server.requests) == 5
        assert job.progress().answered == 5
        assert set(job.progress().failures) == {"job_budget"}
    with (
        RayJob(output, address=nodes.address) as job,
        RayProgram(taught(), job=job, address=nodes.address, **ACTORS) as there,
    ):
        assert scores(there) == [1.0] * 8
        assert (job.progress().answered, job.progress().skipped) == (3, 5)
        assert len(model_server.requests) == 8
        assert type(there(text="word").count) is int


@pytest.mark.slow
def test_a_call_whose_node_is_killed_is_made_again(nodes, lm, model_server):
    model_server.latency = 3.0
    with (
        RayProgram(taught(), address=nodes.address, actors=3, calls_per_actor=4, num_cpus=0.3) as there,
        ThreadPoolExecutor(12) as pool,
    ):
        calls = [pool.submit(in_context, lm, there, "word " * number) for number in range(1, 13)]
        until(lambda: model_server.in_flight == 12)
        model_server.latency = 0.05
        nodes.kill()
        try:
            assert [call.result(300) for call in calls] == list(range(1, 13))
        finally:
            nodes.add()
    assert 12 <= len(model_server.requests) <= 20


def in_context(lm, program, text):
    with dspy.context(lm=lm):
        return program(text=text).count


@pytest.mark.slow
def test_gepa_tunes_a_program_whose_calls_run_there(nodes, lm, model_server):
    model_server.script("teacher", lambda messages, request: json.dumps({"new_instruction": RULE}))
    teacher = dspy.LM("openai/teacher", api_base=model_server.url, api_key="test", cache=False)
    with RayProgram(
        RLM("text -> count: int", limits=Limits(max_iterations=2)), address=nodes.address, **ACTORS
    ) as there:
        gepa = dspy.GEPA(
            metric=gepa_metric(metric), reflection_lm=teacher, max_metric_calls=24, num_threads=8,
            component_selector="all", reflection_minibatch_size=2,
        )  # fmt: skip
        tuned = gepa.compile(there, trainset=DEVSET[4:], valset=DEVSET[4:])
        assert RULE in tuned.program.generate_action.signature.instructions
        assert scores(tuned) == [1.0] * 8
    assert any("Step 1" in record.prompt for record in model_server.requests_of("teacher")), "it reads the traces"


def test_what_cannot_leave_this_process_is_told_of(nodes, lm):
    with pytest.raises(InputError, match="give a DSPy module"):
        RayProgram(3)
    with (
        Sandbox() as sandbox,
        pytest.raises(InputError, match="sandbox, on_event of program cannot leave this process"),
    ):
        RayProgram(RLM("a -> b", sandbox=sandbox, on_event=print))
    with (
        RayProgram(RLM("text -> b"), address=nodes.address, **ACTORS) as there,
        pytest.raises(InputError, match="an input, or the lm"),
    ):
        there(text=(number for number in range(3)))
