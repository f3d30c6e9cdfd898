"""The test server behaves as OpenAI's interface does, seen through the clients that the project uses."""

import asyncio
import json
import re
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path

import openai
import pytest
from langchain_openai import ChatOpenAI

from rlm_adapters.models.provider_errors import chain
from tests.server import (
    ModelServer,
    Reply,
    ToolCall,
    by_question,
    cell,
    content_filtered,
    cut_off,
    drops_connection,
    flaky,
    invalid_json,
    never_answers,
    rate_limited,
    refused,
    server_error,
)


def chat(server, model="root", **options):
    return ChatOpenAI(base_url=server.url, api_key="test", model=model, **({"max_retries": 0} | options))


def test_a_list_of_replies_is_played_by_turn(model_server):
    model_server.script("root", ["first", "second"])
    model = chat(model_server)
    assert model.invoke("hello").text == "first"
    assert model.invoke([("user", "hello"), ("ai", "first"), ("user", "go on")]).text == "second"
    assert model.invoke("hello").text == "first"


def test_a_turn_beyond_the_script_is_an_error_that_names_the_turn(model_server):
    model_server.script("root", ["only"])
    with pytest.raises(openai.BadRequestError, match="has 1 turns; asked for turn 1"):
        chat(model_server).invoke([("user", "q"), ("ai", "only"), ("user", "more")])


def test_the_question_chooses_the_script_and_the_longest_match_wins(model_server):
    model_server.script(
        "root", by_question({"whale": ["a whale"], "white whale": [cell("1 + 1"), "Moby"]}, default=["nothing"])
    )
    model = chat(model_server)
    assert model.invoke("The whale?").text == "a whale"
    assert model.invoke("The white whale?").text == "```repl\n1 + 1\n```"
    assert model.invoke([("user", "The white whale?"), ("ai", "x"), ("user", "out")]).text == "Moby"
    assert model.invoke("Sharks?").text == "nothing"


async def test_it_answers_async_clients_too(model_server):
    model_server.script("sub", lambda messages, request: messages[-1]["content"].upper())
    model = chat(model_server, "sub")
    replies = await asyncio.gather(*(model.ainvoke(f"word{i}") for i in range(20)))
    assert [reply.text for reply in replies] == [f"WORD{i}" for i in range(20)]


@pytest.mark.parametrize("text", ["", "short", "a longer text, sent in several chunks: äöü 漢字 " * 20])
def test_a_streamed_reply_is_the_same_as_one_that_is_not(model_server, text):
    model_server.script("root", lambda m, r: Reply(text))
    whole = chat(model_server).invoke("q")
    pieces = list(chat(model_server, stream_usage=True).stream("q"))
    merged = pieces[0]
    for piece in pieces[1:]:
        merged += piece
    assert merged.text == whole.text == text
    assert merged.usage_metadata == whole.usage_metadata
    assert merged.usage_metadata["output_tokens"] == -(-len(text) // 4)
    assert merged.response_metadata["finish_reason"] == whole.response_metadata["finish_reason"] == "stop"


@pytest.mark.parametrize("streaming", [False, True])
def test_tool_calls_come_through(model_server, streaming):
    arguments = {"city": "Zürich", "days": list(range(30))}
    model_server.script("root", [Reply(tool_calls=(ToolCall("weather", arguments), ToolCall("time", {}, id="mine")))])
    reply = chat(model_server, streaming=streaming).invoke("q")
    assert [(c["name"], c["args"]) for c in reply.tool_calls] == [("weather", arguments), ("time", {})]
    assert reply.tool_calls[1]["id"] == "mine"
    assert reply.response_metadata["finish_reason"] == "tool_calls"


def test_a_tool_conversation_goes_on(model_server):
    model_server.script("root", [Reply(tool_calls=(ToolCall("f", {"x": 1}, id="c1"),)), "done"])
    first = chat(model_server).invoke("q")
    history = [("user", "q"), first, {"role": "tool", "tool_call_id": "c1", "content": "7"}]
    assert chat(model_server).invoke(history).text == "done"


def test_usage_counts_four_characters_a_token(model_server):
    model_server.script("root", lambda m, r: "x" * 9)
    usage = chat(model_server).invoke([("system", "s" * 10), ("user", "u" * 31)]).usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"]) == (11, 3)


def test_a_prompt_beyond_the_window_is_refused_as_openai_refuses_it(model_server):
    model_server.script("root", lambda m, r: "ok", context_length=100)
    assert chat(model_server).invoke("x" * 400).text == "ok"
    with pytest.raises(openai.BadRequestError) as caught:
        chat(model_server).invoke("x" * 401)
    assert caught.value.code == "context_length_exceeded"
    assert "maximum context length is 100 tokens" in str(caught.value)


def test_max_tokens_and_stop_cut_the_reply(model_server):
    model_server.script("root", lambda m, r: "one two three four")
    assert chat(model_server, max_tokens=2).invoke("q").response_metadata["finish_reason"] == "length"
    stopped = chat(model_server).invoke("q", stop=[" three"])
    assert (stopped.text, stopped.response_metadata["finish_reason"]) == ("one two", "stop")


def test_an_unknown_model_is_named(model_server):
    with pytest.raises(openai.NotFoundError, match="`gone` does not exist"):
        chat(model_server, "gone").invoke("q")


def test_a_wrong_key_is_refused():
    with ModelServer(api_key="right") as server:
        server.script("root", lambda m, r: "ok")
        assert ChatOpenAI(base_url=server.url, api_key="right", model="root").invoke("q").text == "ok"
        with pytest.raises(openai.AuthenticationError):
            chat(server).invoke("q")


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        (server_error(), openai.InternalServerError),
        (server_error(status=503), openai.InternalServerError),
        (rate_limited(), openai.RateLimitError),
        (drops_connection(), openai.APIConnectionError),
        (invalid_json(), json.JSONDecodeError),
    ],
)
def test_a_fault_reaches_the_client_as_its_own_kind(model_server, fault, error):
    model_server.script("root", lambda m, r: fault)
    with pytest.raises(error):
        chat(model_server).invoke("q")


def test_a_stream_breaks_off_in_the_middle(model_server):
    model_server.script("root", lambda m, r: drops_connection("a text of some length " * 20))
    received = []
    with pytest.raises(Exception) as broken:  # noqa: PT011 - each transport has a class of its own for it
        received.extend(chunk.text for chunk in chat(model_server).stream("q"))
    words = " ".join(str(link) for link in chain(broken.value))
    assert re.search(r"(?i)peer closed|incomplete|payload", words), words
    assert received
    assert "a text of some".startswith("".join(received)[:14])


def test_a_model_that_never_answers_runs_into_the_clients_timeout(model_server):
    model_server.script("root", lambda m, r: never_answers())
    with pytest.raises(openai.APITimeoutError):
        chat(model_server, timeout=0.2).invoke("q")


def test_a_client_that_goes_away_is_no_longer_in_flight(model_server):
    model_server.script("root", lambda m, r: never_answers())
    with pytest.raises(openai.APITimeoutError):
        chat(model_server, timeout=0.2).invoke("q")
    model_server.script("root", lambda m, r: "ok")
    for _ in range(100):
        chat(model_server).invoke("q")
        if model_server.in_flight == 0:
            break
    assert model_server.in_flight == 0


def test_a_flaky_model_answers_the_retry(model_server):
    model_server.script("root", flaky(rate_limited(retry_after=0.01), then=["ok"], times=2))
    assert chat(model_server, max_retries=2).invoke("q").text == "ok"
    assert [record.status for record in model_server.requests] == [429, 429, 200]
    assert [record.attempt for record in model_server.requests] == [0, 1, 2]


def test_retry_after_is_sent(model_server):
    model_server.script("root", lambda m, r: rate_limited(retry_after=7))
    with pytest.raises(openai.RateLimitError) as caught:
        chat(model_server).invoke("q")
    assert caught.value.response.headers["Retry-After"] == "7"


@pytest.mark.parametrize(
    ("reply", "reason"), [(content_filtered("a"), "content_filter"), (cut_off("a"), "length"), (Reply("a"), "stop")]
)
def test_the_finish_reason_is_the_scripted_one(model_server, reply, reason):
    model_server.script("root", lambda m, r: reply)
    assert chat(model_server).invoke("q").response_metadata["finish_reason"] == reason


def test_a_refusal_is_in_its_own_field(model_server):
    model_server.script("root", lambda m, r: refused("No."))
    reply = chat(model_server).invoke("q")
    assert reply.text == ""
    assert reply.additional_kwargs["refusal"] == "No."


async def test_the_gauge_knows_the_highest_number_in_flight(model_server):
    model_server.script("sub", lambda m, r: Reply("ok", latency=0.5))
    model = chat(model_server, "sub")
    await asyncio.gather(*(model.ainvoke("q") for _ in range(8)))
    assert model_server.max_in_flight == 8
    assert model_server.in_flight == 0


async def test_a_thousand_requests_at_once_are_answered(model_server):
    import aiohttp

    model_server.latency = 0.5
    model_server.script("sub", lambda messages, request: messages[0]["content"])

    async def ask(session, number):
        body = {"model": "sub", "messages": [{"role": "user", "content": str(number)}]}
        async with session.post(f"{model_server.url}/chat/completions", json=body) as response:
            return (await response.json())["choices"][0]["message"]["content"]

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        answers = await asyncio.gather(*(ask(session, number) for number in range(1000)))
    assert answers == [str(number) for number in range(1000)]
    assert len(model_server.requests) == 1000


def test_requests_are_recorded_with_body_headers_and_time(model_server):
    model_server.script("root", lambda m, r: "ok")
    chat(model_server, temperature=0.5).invoke("remember me")
    (record,) = model_server.requests_of("root")
    assert record.body["temperature"] == 0.5
    assert record.messages == [{"role": "user", "content": "remember me"}]
    assert record.headers["Authorization"] == "Bearer test"
    assert record.prompt == "remember me"
    assert record.seconds >= 0


def test_stats_and_models_are_served(model_server):
    model_server.script("root", lambda m, r: "four")
    model_server.script("sub", lambda m, r: "x")
    chat(model_server).invoke("q" * 8)
    with urllib.request.urlopen(model_server.url.replace("/v1", "/stats")) as response:
        stats = json.load(response)
    assert stats["requests"] == stats["max_in_flight"] == 1
    assert stats["models"]["root"] == {
        "requests": 1,
        "statuses": {"200": 1},
        "prompt_tokens": 2,
        "completion_tokens": 1,
        "largest_prompt_bytes": 8,
        "max_in_flight": 1,
    }
    with urllib.request.urlopen(f"{model_server.url}/models") as response:
        assert [model["id"] for model in json.load(response)["data"]] == ["root", "sub"]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"{", "could not parse"),
        (b'{"model": "root", "messages": []}', "at least one message"),
        (b'{"model": "root", "messages": [{"role": "robot", "content": "x"}]}', "Invalid value: 'robot'"),
        (b'{"model": "root", "messages": [{"role": "user", "content": null}]}', "got null"),
        (b'{"model": "root", "messages": [{"role": "tool", "content": "x"}]}', "tool_call_id"),
        (b'{"model": "root", "n": 2, "messages": [{"role": "user", "content": "x"}]}', "n=1 only"),
    ],
)
def test_a_malformed_request_is_refused(model_server, body, message):
    model_server.script("root", lambda m, r: "ok")
    request = urllib.request.Request(f"{model_server.url}/chat/completions", data=body, method="POST")
    with pytest.raises(urllib.request.HTTPError) as caught:
        urllib.request.urlopen(request)
    assert caught.value.code == 400
    assert message in json.load(caught.value)["error"]["message"]


def test_a_script_that_raises_fails_its_test():
    def broken(messages, request):
        raise LookupError("nothing here")

    def use():
        with ModelServer() as server:
            server.script("root", broken)
            with pytest.raises(openai.BadRequestError, match="LookupError: nothing here"):
                chat(server).invoke("q")

    with pytest.raises(LookupError, match="nothing here"):
        use()


def test_leaving_the_server_does_not_wait_for_answers_that_never_come():
    with ModelServer() as server:
        server.script("root", lambda m, r: never_answers())
        with pytest.raises(openai.APIConnectionError):
            chat(server, timeout=0.1).invoke("q")
    assert not any(thread.name == "model-server" for thread in threading.enumerate())


def test_it_serves_from_a_process_of_its_own(tmp_path):
    (tmp_path / "my_scripts.py").write_text("def scripts(server):\n    server.script('root', ['hello'])\n")
    root = Path(__file__).parents[2]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.server", "my_scripts:scripts"],
        cwd=root,
        env={"PYTHONPATH": str(tmp_path), "PATH": ""},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    url = process.stdout.readline().strip()
    assert ChatOpenAI(base_url=url, api_key="test", model="root").invoke("q").text == "hello"
    process.communicate()
    assert process.returncode == 0


class TestThroughDSPy:
    @pytest.fixture
    def lm(self, model_server):
        dspy = pytest.importorskip("dspy")

        def make(**options):
            defaults = {"api_base": model_server.url, "api_key": "test", "cache": False, "num_retries": 0}
            return dspy.LM("openai/root", **(defaults | options))

        return make

    def test_its_lm_is_answered(self, model_server, lm):
        model_server.script("root", lambda m, r: "fine")
        assert lm()("How are you?") == ["fine"]
        assert model_server.requests[0].messages[-1]["content"] == "How are you?"

    async def test_its_lm_is_answered_async(self, model_server, lm):
        model_server.script("root", lambda m, r: "fine")
        assert await lm().acall("How are you?") == ["fine"]

    def test_its_adapters_parse_scripted_fields(self, model_server, lm):
        import dspy

        model_server.script("root", lambda m, r: "[[ ## answer ## ]]\n42\n\n[[ ## completed ## ]]")
        with dspy.context(lm=lm()):
            assert dspy.Predict("question -> answer: int")(question="?").answer == 42

    def test_its_retries_see_the_faults(self, model_server, lm):
        model_server.script("root", flaky(server_error(), then=["fine"]))
        assert lm(num_retries=2)("q") == ["fine"]
        assert [record.status for record in model_server.requests] == [500, 200]
