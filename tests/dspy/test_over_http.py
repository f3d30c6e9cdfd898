"""`RLM` as any DSPy module, with a real ``dspy.LM`` that asks a model server over HTTP."""

from __future__ import annotations

import asyncio
import copy
import threading

import cloudpickle
import dspy
import pytest
from dspy.utils.callback import BaseCallback

from rlm_adapters import RLM, ChatDSPy, ChatRLM, lm_from_chat_model
from tests.dspy.scripted import fields_text, step_of
from tests.server import text_of


def playing(*cells, inner="SUBMIT(len(text))", sub=lambda text: text.strip().upper()):
    """The script of a model that is root LM (these cells), sub-LM, and a ReAct agent."""

    def script(messages, request):
        prompt = "\n".join(text_of(message) for message in messages)
        if "repl_history" in prompt and "[[ ## code ## ]]" in prompt:
            code = inner if "Variable: `text`" in prompt else cells[step_of(prompt)]
            return fields_text({"reasoning": f"step {step_of(prompt) + 1}", "code": code})
        if "next_tool_name" in prompt:
            done = "observation_0" in prompt
            return fields_text(
                {
                    "next_thought": "t",
                    "next_tool_name": "finish" if done else "measure",
                    "next_tool_args": "{}" if done else '{"text": "sevench"}',
                }
            )
        if "observation_0" in prompt:
            return fields_text({"reasoning": "r", "answer": "seven"})
        return sub(text_of(messages[-1]))

    return script


@pytest.fixture
def lm(model_server):
    """Make an LM of the server."""

    def make(name="root", **options):
        options = {"cache": False, "num_retries": 0} | options
        return dspy.LM(f"openai/{name}", api_base=model_server.url, api_key="test", **options)

    return make


TWO_STEPS = ("n = len(query)\nprint(n)", "SUBMIT(llm_query('a') + llm_query('b') + str(n))")


def test_answer_usage_callbacks_and_trace(model_server, lm):
    model_server.script("root", playing(*TWO_STEPS))
    model_server.script("sub", playing())
    seen = []

    class Recorder(BaseCallback):
        def on_module_start(self, call_id, instance, inputs):
            seen.append(type(instance).__name__)

        def on_lm_end(self, call_id, outputs, exception=None):
            seen.append("LM")

    rlm = RLM("query -> answer", sub_lm=lm("sub"))
    with dspy.context(lm=lm(), callbacks=[Recorder()], track_usage=True, trace=[]):
        result = rlm(query="hello")
        trace = list(dspy.settings.trace)
    assert result.answer == "AB5"
    assert [len(entry[1]["repl_history"]) for entry in trace] == [1]
    assert seen[:3] == ["RLM", "Predict", "LM"]
    assert seen.count("LM") == 4
    usage = result.get_lm_usage()
    told = result.rlm["usage"]
    assert {name: entry["prompt_tokens"] for name, entry in usage.items()} == {
        name: entry["input_tokens"] for name, entry in told["by_model"].items()
    }
    assert told["by_model"]["openai/sub"]["calls"] == 2


def test_dspys_cache_saves_the_requests_of_a_second_run(model_server, lm):
    model_server.script("root", playing(*TWO_STEPS))
    cached = lm(cache=True)
    for _ in range(2):
        with dspy.context(lm=cached):
            assert RLM("query -> answer")(query="hello").answer == "AB5"
    assert len(model_server.requests) == 4


def test_an_error_of_the_server_reaches_the_caller_as_dspys(model_server, lm):
    from tests.server import server_error

    model_server.script("root", lambda messages, request: server_error())
    with dspy.context(lm=lm()), pytest.raises(dspy.LMError):
        RLM("query -> answer")(query="hello")


def test_evaluate_in_threads_and_batch(model_server, lm):
    model_server.script("root", playing("kept = query", "SUBMIT(kept + llm_query(kept))"))
    examples = [dspy.Example(query=f"q{n}", answer=f"q{n}Q{n}").with_inputs("query") for n in range(40)]
    evaluate = dspy.Evaluate(devset=examples, metric=dspy.evaluate.answer_exact_match, num_threads=16)
    rlm = RLM("query -> answer")
    with dspy.context(lm=lm()):
        assert evaluate(rlm).score == 100.0
        assert [one.answer for one in rlm.batch(examples[:5], num_threads=4)] == [one.answer for one in examples[:5]]
    assert model_server.max_in_flight > 1
    assert len(rlm._runtime.sessions) == 0


@pytest.mark.parametrize("form", ["sync", "async"])
async def test_streamify_streams_from_the_server(model_server, lm, form):
    model_server.script("root", playing("x = 1", "SUBMIT('done')"))
    rlm = RLM("query -> answer")
    listener = dspy.streaming.StreamListener("code", predict=rlm.generate_action, allow_reuse=True)
    stream = dspy.streamify(rlm, stream_listeners=[listener], is_async_program=form == "async")
    with dspy.context(lm=lm()):
        parts = [part async for part in stream(query="q")]
    assert parts[-1].answer == "done"
    text = "".join(part.chunk for part in parts if isinstance(part, dspy.streaming.StreamResponse))
    assert "x = 1" in text
    assert "SUBMIT" in text


async def test_asyncify_and_many_runs_on_one_loop(model_server, lm):
    model_server.script("root", playing("SUBMIT(llm_query(query))"))
    rlm = RLM("query -> answer")
    with dspy.context(lm=lm()):
        assert (await dspy.asyncify(rlm)(query="hi")).answer == "HI"
        results = await asyncio.gather(*(rlm.acall(query=f"q{n}") for n in range(10)))
    assert [one.answer for one in results] == [f"Q{n}" for n in range(10)]


def test_copies_pickles_and_files_work_as_the_original(model_server, lm, tmp_path):
    model_server.script("root", playing("SUBMIT(query)"))
    rlm = RLM("query -> answer", sub_call=True)
    rlm.save(tmp_path / "state.json")
    rlm.save(tmp_path / "whole", save_program=True)
    loaded = RLM("query -> answer", sub_call=True)
    loaded.load(tmp_path / "state.json")
    copies = [
        copy.deepcopy(rlm),
        rlm.deepcopy(),
        rlm.reset_copy(),
        cloudpickle.loads(cloudpickle.dumps(rlm)),
        loaded,
        dspy.load(tmp_path / "whole", allow_pickle=True),
    ]
    with dspy.context(lm=lm()):
        assert [one(query="x").answer for one in copies] == ["x"] * 6


def test_an_lm_that_is_set_on_the_program_is_used(model_server, lm):
    model_server.script("own", playing("SUBMIT('own')"))
    rlm = RLM("query -> answer")
    rlm.set_lm(lm("own"))
    assert rlm(query="q").answer == "own"
    assert rlm.get_lm().model == "openai/own"


def test_several_rlms_of_one_program(model_server, lm):
    class Program(dspy.Module):
        def __init__(self):
            super().__init__()
            self.measure = RLM("text -> length: int")
            self.judge = RLM("query -> answer")

        def forward(self, text):
            return self.judge(query=f"{self.measure(text=text).length}")

    model_server.script("root", playing("SUBMIT(query + llm_query('!'))"))
    with dspy.context(lm=lm(), trace=[]):
        assert Program()(text="abcd").answer == "4!"
        assert len(dspy.settings.trace) == 2


@pytest.mark.parametrize("agent", [dspy.ReAct, dspy.ReActV2])
def test_an_rlm_in_a_tool_of_an_agent(model_server, lm, agent):
    rlm = RLM("text -> length: int")
    called = []

    def measure(text: str) -> int:
        """Length of a text."""
        called.append(threading.current_thread().name)
        return rlm(text=text).length

    if agent is dspy.ReActV2:
        from tests.server import Reply, ToolCall

        def script(messages, request):
            prompt = "\n".join(text_of(message) for message in messages)
            if "repl_history" in prompt:
                return playing()(messages, request)
            if '"value": 7' in prompt:
                return Reply("", tool_calls=[ToolCall("submit", {"answer": "seven"})])
            return Reply("", tool_calls=[ToolCall("measure", {"text": "sevench"})])

        model_server.script("root", script)
    else:
        model_server.script("root", playing())
    with dspy.context(lm=lm()):
        assert agent("question -> answer", tools=[measure])(question="How long?").answer == "seven"
    assert len(called) == 1


async def test_an_rlm_in_an_async_tool_of_another_rlm(model_server, lm):
    inner = RLM("text -> length: int")

    async def measure(text: str) -> int:
        """Length of a text."""
        return (await inner.acall(text=text)).length

    model_server.script("root", playing("SUBMIT(str(measure('abc') + measure(text='abcd')))"))
    with dspy.context(lm=lm()):
        outer = RLM("query -> answer", tools=[measure])
        assert (await outer.acall(query="q")).answer == "7"
        assert (await asyncio.to_thread(outer, query="q")).answer == "7"


def test_an_rlm_as_sub_lm_of_another(model_server, lm):
    model_server.script("root", playing("SUBMIT(llm_query('abc') + llm_query('defg'))", inner="SUBMIT(text[::-1])"))
    outer = RLM("query -> answer", sub_lm=RLM("text -> reversed"))
    assert "sub_lm.generate_action" in dict(outer.named_predictors()), "and it is tuned with it"
    with dspy.context(lm=lm()):
        result = outer(query="q")
    assert result.answer == "cbagfed"
    assert result.rlm["usage"]["calls"] == 2


async def test_a_chat_model_drives_the_module_and_the_module_answers_a_chat(model_server, chat):
    model_server.script("root", playing("SUBMIT(llm_query('abc'))"))
    lm = lm_from_chat_model(chat("root"), cache=False)
    with dspy.context(lm=lm):
        rlm = RLM("query -> answer")
        assert rlm(query="q").answer == "ABC"
        assert (await rlm.acall(query="q")).answer == "ABC"
    back = ChatRLM(model=ChatDSPy(lm=lm), prompt=rlm.dump_state())
    assert back.invoke("q").text == "ABC"
    assert (await back.ainvoke("q")).text == "ABC"
    again = lm_from_chat_model(back, cache=False)
    assert again("q") == ["ABC"], "a ChatRLM is an LM for DSPy, too"
