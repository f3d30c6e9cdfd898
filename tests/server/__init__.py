"""A small OpenAI-compatible model server that plays scripted models.

    with ModelServer() as server:
        server.script("root", [cell("print(len(context))"), "FINAL(42)"])
        server.script("sub", lambda messages, request: "yes")
        ChatOpenAI(base_url=server.url, api_key="test", model="root").invoke("How many?")
        assert server.requests[0].messages[-1]["content"] == "How many?"

Scripts hold no state: what a model answers follows from the request alone (:mod:`tests.server.scripts`), so
they work for concurrent runs, retries and replays.
"""

from tests.server.replies import (
    Reply,
    ToolCall,
    content_filtered,
    cut_off,
    drops_connection,
    invalid_json,
    never_answers,
    rate_limited,
    refused,
    server_error,
)
from tests.server.scripts import ModelRequest, by_question, cell, flaky, question_text, text_of, turn_of
from tests.server.server import ModelServer, RequestRecord

__all__ = [
    "ModelRequest",
    "ModelServer",
    "Reply",
    "RequestRecord",
    "ToolCall",
    "by_question",
    "cell",
    "content_filtered",
    "cut_off",
    "drops_connection",
    "flaky",
    "invalid_json",
    "never_answers",
    "question_text",
    "rate_limited",
    "refused",
    "server_error",
    "text_of",
    "turn_of",
]
