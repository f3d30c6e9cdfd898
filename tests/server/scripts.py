"""Scripts: how a model decides what to answer, from the request alone.

A script is a function ``(messages, request) -> Reply | str``, or a sequence of replies (or such functions), of
which the number of assistant turns in the messages picks one.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from tests.server.replies import Reply

Message: TypeAlias = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """What a script may know about a request beside its messages."""

    model: str
    body: dict[str, Any]
    headers: Mapping[str, str]
    attempt: int
    """How often the same body came before: 0 the first time, 1 at the first retry (or equal call)."""
    index: int
    """Number of the request on this server, from 0."""


ScriptFunction: TypeAlias = Callable[[list[Message], ModelRequest], "Reply | str"]
Script: TypeAlias = "ScriptFunction | Sequence[Reply | str | ScriptFunction]"


class ScriptError(Exception):
    """A script has no answer to a request; the server answers with HTTP 400, which no client retries."""


def cell(code: str, thought: str = "") -> str:
    """A reply of a root LM with one cell of code."""
    return f"{thought}\n\n```repl\n{code.strip()}\n```".lstrip()


def text_of(message: Message) -> str:
    """The text of a message whose content is a string, a list of content blocks or missing."""
    content = message.get("content")
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    return "\n".join(block if isinstance(block, str) else block.get("text", "") for block in content)


def turn_of(messages: list[Message]) -> int:
    """Number of assistant turns so far: the index of the turn that is asked for."""
    return sum(message.get("role") == "assistant" for message in messages)


def question_text(messages: list[Message]) -> str:
    """All that the model was told, without its own turns."""
    return "\n".join(text_of(message) for message in messages if message.get("role") != "assistant")


def play(
    script: Script, messages: list[Message], request: ModelRequest, turn: Callable[[list[Message]], int] = turn_of
) -> Reply:
    """The answer of a script to a request."""
    if callable(script):
        answer = script(messages, request)
    else:
        index = turn(messages)
        if index >= len(script):
            raise ScriptError(f"the script of model {request.model!r} has {len(script)} turns; asked for turn {index}")
        entry = script[index]
        answer = entry(messages, request) if callable(entry) else entry
    return Reply(answer) if isinstance(answer, str) else answer


def by_question(
    scripts: Mapping[str, Script],
    default: Script | None = None,
    *,
    turn: Callable[[list[Message]], int] = turn_of,
) -> ScriptFunction:
    """A script that plays another one, chosen by a text that occurs in what the model was told.

    The longest text that occurs wins. ``turn`` finds the index of the turn where assistant messages do not tell it.
    """

    def choose(messages: list[Message], request: ModelRequest) -> Reply:
        told = question_text(messages)
        found = max((key for key in scripts if key in told), key=len, default=None)
        chosen = default if found is None else scripts[found]
        if chosen is None:
            raise ScriptError(f"no script of model {request.model!r} is for: {told[-300:]!r}")
        return play(chosen, messages, request, turn)

    return choose


def flaky(fault: Reply, then: Script, times: int = 1) -> ScriptFunction:
    """A script whose first ``times`` answers to each different request are ``fault``."""

    def answer(messages: list[Message], request: ModelRequest) -> Reply:
        return fault if request.attempt < times else play(then, messages, request)

    return answer
