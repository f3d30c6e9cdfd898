"""LangChain models under DSPy, DSPy LMs under LangChain."""

import base64

import dspy
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI

from rlm_adapters import ChatDSPy, InputError, lm_from_chat_model
from tests.dspy.scripted import fields_text, scripted_lm
from tests.server import Reply, ToolCall, flaky, server_error

PIXEL = base64.b64encode(b"\x89PNG").decode()


@pytest.fixture
def chat(model_server):
    return ChatOpenAI(model="chat", base_url=model_server.url, api_key="test", max_retries=0)


def test_a_chat_model_is_an_lm_with_history_and_usage(model_server, chat):
    model_server.script("chat", lambda messages, request: fields_text({"answer": "4"}))
    lm = lm_from_chat_model(chat, temperature=0.5, max_tokens=99, cache=False)
    with dspy.context(lm=lm), dspy.track_usage() as usage:
        assert dspy.Predict("question -> answer: int")(question="2 + 2?").answer == 4
    body = model_server.requests[0].body
    assert (body["temperature"], body.get("max_tokens") or body.get("max_completion_tokens")) == (0.5, 99)
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert usage.get_total_tokens()[lm.model]
    assert len(lm.history) == 1


async def test_the_async_form_is_async_all_the_way(model_server, chat):
    model_server.script("chat", lambda messages, request: fields_text({"answer": "yes"}))
    with dspy.context(lm=lm_from_chat_model(chat, cache=False)):
        assert (await dspy.Predict("question -> answer").acall(question="?")).answer == "yes"


def test_dspy_retries_what_a_chat_model_could_not_do_for_a_moment(model_server, chat):
    model_server.script("chat", flaky(server_error(), lambda messages, request: "there again"))
    lm = lm_from_chat_model(chat, cache=False, num_retries=2)
    assert lm("hello") == ["there again"]
    assert len(model_server.requests) == 2


def test_images_reach_the_chat_model_as_content_blocks(model_server, chat):
    model_server.script("chat", lambda messages, request: fields_text({"answer": "a pixel"}))
    with dspy.context(lm=lm_from_chat_model(chat, cache=False)):
        dspy.Predict("image: dspy.Image -> answer")(image=dspy.Image(f"data:image/png;base64,{PIXEL}"))
    blocks = model_server.requests[0].messages[-1]["content"]
    assert {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{PIXEL}"}} in blocks


def test_only_a_chat_model_is_taken():
    with pytest.raises(InputError, match="chat model"):
        lm_from_chat_model("gpt")  # type: ignore[arg-type]


def test_an_lm_is_a_chat_model():
    lm = scripted_lm(lambda prompt: prompt.upper())
    reply = ChatDSPy(lm=lm).invoke([SystemMessage("be loud"), HumanMessage("hello")])
    assert reply.text == "BE LOUD\nHELLO" or "HELLO" in reply.text
    assert reply.usage_metadata == {"input_tokens": 100, "output_tokens": 10, "total_tokens": 110}
    assert reply.response_metadata["model_name"] == "scripted/lm"


def test_what_the_tokens_were_crosses_both_bridges(model_server, chat):
    model_server.script("chat", lambda messages, request: Reply("hello", cached_tokens=3, reasoning_tokens=2))
    lm = lm_from_chat_model(chat, cache=False)
    usage = ChatDSPy(lm=lm).invoke("hello").usage_metadata
    assert usage["input_token_details"] == {"cache_read": 3}
    assert usage["output_token_details"] == {"reasoning": 2}


async def test_an_lm_is_awaited_as_a_chat_model():
    reply = await ChatDSPy(lm=scripted_lm(lambda prompt: "ok")).ainvoke("hello")
    assert reply.text == "ok"


def test_tool_calls_cross_both_bridges(model_server, chat):
    @tool
    def weather(city: str) -> str:
        """Weather of a city."""
        return city

    def script(messages, request):
        assert request.body["tools"][0]["function"]["name"] == "weather"
        if messages[-1]["role"] == "tool":
            return f"It is {messages[-1]['content']}."
        return Reply("", tool_calls=[ToolCall("weather", {"city": "Bern"})])

    model_server.script("chat", script)
    model = ChatDSPy(lm=lm_from_chat_model(chat, cache=False)).bind_tools([weather])
    first = model.invoke("Weather in Bern?")
    assert [(call["name"], call["args"]) for call in first.tool_calls] == [("weather", {"city": "Bern"})]
    call_id = first.tool_calls[0]["id"]
    last = model.invoke([HumanMessage("Weather in Bern?"), first, ToolMessage("sunny", tool_call_id=call_id)])
    assert last.text == "It is sunny."
    assert isinstance(last, AIMessage)
