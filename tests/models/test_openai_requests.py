"""The messages of OpenAI's models go around the client's walk over them, and the request is the same."""

import functools
import json
import weakref

import openai
import pytest
from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_openai import AzureChatOpenAI, ChatOpenAI

from rlm_adapters.models.openai_requests import unwalked

MESSAGES = {
    "text": [SystemMessage("s"), HumanMessage("h", name="n"), AIMessage("a"), HumanMessage("ä \u2028 \U0001f600")],
    "blocks": [
        HumanMessage(
            [
                {"type": "text", "text": "look"},
                {"type": "image", "base64": "aGk=", "mime_type": "image/png"},
                {"type": "image_url", "image_url": {"url": "https://example.org/a.png", "detail": "low"}},
                {"type": "file", "base64": "aGk=", "mime_type": "application/pdf", "filename": "a.pdf"},
                {"type": "audio", "base64": "aGk=", "mime_type": "audio/wav"},
            ]
        )
    ],
    "tool calls": [
        HumanMessage("h"),
        AIMessage("", tool_calls=[{"name": "f", "args": {"x": [1, None, 2.5]}, "id": "1", "type": "tool_call"}]),
        ToolMessage("42", tool_call_id="1"),
    ],
}
OPTIONS = {
    "none": {},
    "some": {"temperature": 0.5, "max_tokens": 7, "stop": ["x"], "seed": 3},
    "extra body": {"extra_body": {"top_k": 3}},
    "tools": {"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}]},
    "JSON": {"response_format": {"type": "json_object"}},
}


def bodies(server):
    return [json.dumps(request.body) for request in server.requests]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
@pytest.mark.parametrize("messages", MESSAGES.values(), ids=MESSAGES)
async def test_the_request_is_the_same(messages, options, model_server, chat):
    model_server.script("root", lambda messages, request: "{}")
    model = chat("root")
    for one in (model, unwalked(model)):
        one.invoke(messages, **options)
        await one.ainvoke(messages, **options)
        list(one.stream(messages, **options))
        [chunk async for chunk in one.astream(messages, **options)]
    sent = bodies(model_server)
    assert len(sent) == 8
    assert sent[:4] == sent[4:]


def test_the_copy_goes_when_the_call_ends_and_not_when_python_looks_for_cycles(chat):
    copied = weakref.ref(unwalked(chat("root")))
    assert copied() is None


def test_the_client_gets_no_message_to_walk_over(chat):
    model = chat("root")
    seen = unwalked(model)._get_request_payload([HumanMessage("h")])
    assert seen["messages"] == []
    assert seen["extra_body"]["messages"] == [{"role": "user", "content": "h"}]
    assert "extra_body" not in model._get_request_payload([HumanMessage("h")]), "the model itself is as it was"


def test_what_the_caller_puts_into_the_extra_body_wins(chat):
    own = {"messages": [{"role": "user", "content": "mine"}]}
    assert unwalked(chat("root"))._get_request_payload("h", extra_body=own)["extra_body"] == own


def test_a_later_change_of_the_model_counts(model_server, chat):
    model_server.script("root", lambda messages, request: "ok")
    model = chat("root")
    unwalked(model).invoke("q")
    model.temperature = 0.25
    unwalked(model).invoke("q")
    assert [request.body.get("temperature") for request in model_server.requests] == [None, 0.25]


def test_the_models_of_azure_are_called_like_this_too():
    model = AzureChatOpenAI(
        azure_deployment="root", azure_endpoint="https://example.org", api_key="k", api_version="2025-01-01"
    )
    payload = unwalked(model)._get_request_payload([HumanMessage("h")])
    assert (payload["messages"], payload["extra_body"]["messages"]) == ([], [{"role": "user", "content": "h"}])


class _Own(ChatOpenAI):
    calls: int = 0

    def _generate(self, *args, **kwargs):
        self.calls += 1
        return super()._generate(*args, **kwargs)


def test_a_class_of_the_user_is_left_alone():
    model = _Own(model="root", api_key="k")
    assert unwalked(model) is model


def test_a_traced_function_of_the_client_gets_the_messages(chat, monkeypatch):
    completions = openai.resources.chat.completions.Completions
    original = completions.create

    @functools.wraps(original)
    def traced(self, **kwargs):
        return original(self, **kwargs)

    model = chat("root")
    assert unwalked(model) is not model
    monkeypatch.setattr(completions, "create", traced)
    assert unwalked(model) is model
    monkeypatch.undo()
    assert unwalked(model) is not model


@pytest.mark.parametrize("name", ["request", "post"])
@pytest.mark.parametrize("place", ["the client", "its class"])
def test_what_traces_requests_sees_the_messages(name, place, chat, monkeypatch):
    model = chat("root")
    client = model.root_async_client
    original = getattr(type(client), name)

    def traced(*args, **kwargs):
        return original(*args, **kwargs)

    if place == "the client":
        monkeypatch.setitem(vars(client), name, traced)
    else:
        monkeypatch.setattr(type(client), name, traced)
    assert unwalked(model) is model
    monkeypatch.undo()
    assert unwalked(model) is not model


def test_a_replaced_client_gets_the_messages(chat):
    class Client:
        pass

    model = chat("root")
    model.client = Client()
    assert unwalked(model) is model


def test_the_responses_api_is_left_alone(chat):
    model = chat("root", use_responses_api=True)
    payload = unwalked(model)._get_request_payload([HumanMessage("h")])
    assert payload == model._get_request_payload([HumanMessage("h")])
    assert "input" in payload
