"""What DSPy does with modules works with `RLM`: contexts, traces, usage, copies, files, streams, threads."""

from __future__ import annotations

import asyncio
import copy
import json
import multiprocessing

import cloudpickle
import dspy
import pytest
from dspy.utils.callback import BaseCallback

from rlm_adapters import RLM, Limits
from tests.dspy.scripted import playing, scripted_lm


def answer(program, **inputs):
    with dspy.context(lm=playing("x = 1", "SUBMIT(query[::-1])")):
        return program(query="abc", **inputs)


def test_the_trace_holds_the_last_step_which_holds_all_others():
    rlm = RLM("query -> answer")
    with dspy.context(trace=[]):
        answer(rlm)
        trace = dspy.settings.trace
        assert [predictor for predictor, _, _ in trace] == [rlm.generate_action]
        assert len(trace[0][1]["repl_history"]) == 1
        assert trace[0][2].code == "SUBMIT(query[::-1])"


def test_every_step_stays_in_the_trace_when_asked_for():
    rlm = RLM("query -> answer", trajectory_demos=False)
    with dspy.context(trace=[]):
        answer(rlm)
        assert [len(inputs["repl_history"]) for _, inputs, _ in dspy.settings.trace] == [0, 1]


def test_traces_of_other_modules_are_left_alone():
    class Program(dspy.Module):
        def __init__(self):
            super().__init__()
            self.before = dspy.Predict("query -> plan")
            self.rlm = RLM("query -> answer")

        def forward(self, query):
            self.before(query=query)
            return self.rlm(query=query)

    def script(prompt):
        if "repl_history" not in prompt:
            return {"plan": "p"}
        return {"reasoning": "r", "code": "SUBMIT('x')" if "Step 1" in prompt else "x = 1"}

    program = Program()
    with dspy.context(lm=scripted_lm(script), trace=[]):
        program(query="q")
        names = {id(predictor): name for name, predictor in program.named_predictors()}
        assert [names[id(one)] for one, _, _ in dspy.settings.trace] == ["before", "rlm.generate_action"]


def test_usage_is_tracked_over_the_run_and_its_sub_calls():
    rlm = RLM("query -> answer")
    with dspy.context(lm=playing("SUBMIT(llm_query('a') + llm_query('b'))"), track_usage=True):
        usage = rlm(query="q").get_lm_usage()
    assert usage["scripted/lm"]["total_tokens"] == 330


def test_callbacks_see_the_module_its_predictors_and_its_lm_nested():
    events = []

    class Recorder(BaseCallback):
        def on_module_start(self, call_id, instance, inputs):
            events.append(type(instance).__name__)

        def on_lm_start(self, call_id, instance, inputs):
            events.append("LM")

    with dspy.context(callbacks=[Recorder()]):
        answer(RLM("query -> answer"))
    assert events == ["RLM", "Predict", "LM", "Predict", "LM"]


def test_answers_come_from_dspys_cache_the_second_time():
    lm = scripted_lm(lambda prompt: {"reasoning": "r", "code": "SUBMIT('x')"}, "scripted/cached", cache=True)
    with dspy.context(lm=lm):
        for _ in range(2):
            assert RLM("query -> answer")(query="the same question").answer == "x"
    assert len(lm.prompts) == 1


def test_a_copy_calls_its_own_predictors():
    rlm = RLM("query -> answer")
    answer(rlm)
    twin = rlm.deepcopy()
    twin.generate_action.signature = twin.generate_action.signature.with_instructions("TWIN")
    lm = scripted_lm(lambda prompt: {"reasoning": "r", "code": f"SUBMIT({'TWIN' in prompt})"})
    with dspy.context(lm=lm):
        assert (rlm(query="q").answer, twin(query="q").answer) == ("False", "True")
    assert copy.deepcopy(rlm)._runtime is rlm._runtime, "one graph and one sandbox for all copies"


def test_a_module_is_pickled_and_saved_whole(tmp_path):
    rlm = RLM("query -> answer", max_iters=3, on_event=lambda event: None)
    rlm.generate_action.demos = [dspy.Example(reasoning="demo", code="print(1)")]
    for program in (cloudpickle.loads(cloudpickle.dumps(rlm)),):
        assert program.max_iters == 3
        assert program.generate_action.demos[0].reasoning == "demo"
        assert answer(program).answer == "cba"
    rlm.save(tmp_path / "program", save_program=True)
    assert answer(dspy.load(tmp_path / "program", allow_pickle=True)).answer == "cba"


def test_states_are_exchanged_with_dspys_own_rlm(tmp_path):
    ours, theirs = RLM("context, query -> answer: int"), dspy.RLM("context, query -> answer: int")
    ours.generate_action.signature = ours.generate_action.signature.with_instructions("Learned by us.")
    ours.save(tmp_path / "ours.json")
    theirs.load(tmp_path / "ours.json")
    assert theirs.generate_action.signature.instructions == "Learned by us."
    theirs.extract.signature = theirs.extract.signature.with_instructions("Learned by them.")
    theirs.save(tmp_path / "theirs.json")
    ours.load(tmp_path / "theirs.json")
    assert ours.extract.signature.instructions == "Learned by them."
    assert set(json.loads((tmp_path / "theirs.json").read_text())) == {"generate_action", "extract", "metadata"}


def test_a_file_without_child_predictors_loads_into_a_deeper_module(tmp_path):
    dspy.RLM("query -> answer").save(tmp_path / "flat.json")
    deep = RLM("query -> answer", max_depth=2)
    deep.load(tmp_path / "flat.json")
    deep.save(tmp_path / "deep.json")
    RLM("query -> answer", max_depth=2).load(tmp_path / "deep.json")
    dspy.RLM("query -> answer").load(tmp_path / "deep.json")


def test_sixteen_threads_evaluate_two_hundred_examples_without_mixing_anything():
    """Every answer needs the variable of one step in the next, and a sub-call: a mixed-up session would show."""
    rlm = RLM("context, number: int -> answer: int")
    seen: dict[int, int] = {}

    def script(prompt):
        if "repl_history" not in prompt:
            return str(int(prompt.strip()) * 2)
        first = "Step 1" not in prompt
        return {
            "reasoning": "r",
            "code": "kept = number + len(context)" if first else "SUBMIT(int(llm_query(str(kept))))",
        }

    def metric(example, prediction, trace=None):
        actions = [entry for entry in dspy.settings.trace if entry[0] is rlm.generate_action]
        seen[example.number] = len(actions)
        assert all(f"{example.number}" in str(entry[1]["variables_info"]) for entry in actions)
        assert len(prediction.trajectory) == 2
        return prediction.answer == (example.number + 1_000) * 2

    examples = [
        dspy.Example(context="x" * 1_000, number=number, answer=0).with_inputs("context", "number")
        for number in range(10_000, 10_200)
    ]

    class Traced(dspy.Module):
        def __init__(self):
            super().__init__()
            self.rlm = rlm

        def forward(self, **inputs):
            return self.rlm(**inputs)

    def judged(example, prediction, trace=None):
        return metric(example, prediction)

    class Program(Traced):
        def forward(self, **inputs):
            with dspy.context(trace=[]):
                result = self.rlm(**inputs)
                result.correct = metric(dspy.Example(**inputs), result)
                return result

    evaluate = dspy.Evaluate(devset=examples, metric=lambda e, p, trace=None: p.correct, num_threads=16)
    with dspy.context(lm=scripted_lm(script)):
        result = evaluate(Program())
    assert result.score == 100.0
    assert len(seen) == 200
    assert set(seen.values()) == {1}
    assert len(rlm._runtime.sessions) == 0, "no session is left"
    assert multiprocessing.active_children() == []


async def test_many_runs_at_once_on_one_event_loop():
    rlm = RLM("query -> answer")
    with dspy.context(lm=playing("x = query", "SUBMIT(x * 2)")):
        results = await asyncio.gather(*(rlm.acall(query=f"q{i}") for i in range(30)))
    assert [result.answer for result in results] == [f"q{i}q{i}" for i in range(30)]


async def test_asyncify_runs_the_module_in_a_thread():
    with dspy.context(lm=playing("SUBMIT(query)")):
        assert (await dspy.asyncify(RLM("query -> answer"))(query="hi")).answer == "hi"


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_streamify_gives_tokens_of_the_listened_predictor_and_the_prediction(form):
    rlm = RLM("query -> answer")
    listener = dspy.streaming.StreamListener("reasoning", predict=rlm.generate_action, allow_reuse=True)
    stream = dspy.streamify(rlm, stream_listeners=[listener], is_async_program=form == "async")
    with dspy.context(lm=playing("x = 1", "SUBMIT('done')")):
        parts = [part async for part in stream(query="q")]
    assert isinstance(parts[-1], dspy.Prediction)
    assert parts[-1].answer == "done"
    assert "step 1" in "".join(part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse))


@pytest.mark.parametrize("form", ["sync", "async"])
@pytest.mark.parametrize("options", [{}, {"limits": Limits(max_seconds=60)}], ids=["plain", "with a time limit"])
async def test_calls_from_threads_of_the_engine_stream_too(form, options):
    """A time limit, sub-calls at the same time, and a module in a tool leave the thread that DSPy streams from."""
    shout = dspy.Predict("text -> loud")

    def louder(text: str) -> str:
        """Shout."""
        return shout(text=text).loud

    rlm = RLM("query -> answer: list", tools=[louder], max_llm_calls=100, **options)
    listeners = [
        dspy.streaming.StreamListener("reasoning", predict=rlm.generate_action, allow_reuse=True),
        dspy.streaming.StreamListener("loud", predict=shout, allow_reuse=True),
    ]

    def script(prompt):
        if "repl_history" in prompt:
            cell = "SUBMIT([*llm_query_batched([str(n) for n in range(40)]), louder('a')])"
            return {"reasoning": "think", "code": cell}
        return {"loud": "A"} if "`loud`" in prompt else "sub"

    stream = dspy.streamify(rlm, stream_listeners=listeners, is_async_program=form == "async")
    with dspy.context(lm=scripted_lm(script)):
        parts = [part async for part in stream(query="q")]
    assert parts[-1].answer == ["sub"] * 40 + ["A"]
    streamed = {part.signature_field_name for part in parts if isinstance(part, dspy.streaming.StreamResponse)}
    assert streamed == {"reasoning", "loud"}


def test_two_rlms_of_one_program_are_tuned_apart():
    class Program(dspy.Module):
        def __init__(self):
            super().__init__()
            self.find = RLM("context, query -> passage")
            self.judge = RLM("passage -> verdict: bool")

        def forward(self, context, query):
            return self.judge(passage=self.find(context=context, query=query).passage)

    program = Program()
    assert [name for name, _ in program.named_predictors()] == [
        "find.generate_action", "find.extract", "judge.generate_action", "judge.extract",
    ]  # fmt: skip

    def script(prompt):
        return {
            "reasoning": "r",
            "code": "SUBMIT('owl' in passage)"
            if "`verdict`" in prompt or "{verdict}" in prompt
            else "SUBMIT(context[:3])",
        }

    with dspy.context(lm=scripted_lm(script)):
        assert program(context="owls fly", query="q").verdict is True
