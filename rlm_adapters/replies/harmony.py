"""The Harmony format of gpt-oss, if a server returns it raw.

Messages on the ``analysis`` channel are thoughts, a message to a tool is a call, and ``final`` is the reply
(https://github.com/openai/harmony).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

_MESSAGE: Final = re.compile(
    r"(?:<\|start\|>(?P<role>[^<]*))?<\|channel\|>(?P<channel>[^<]*)(?:<\|constrain\|>[^<]*)?<\|message\|>"
    r"(?P<body>.*?)(?P<end><\|end\|>|<\|call\|>|<\|return\|>|(?=<\|start\|>)|(?=<\|channel\|>)|\Z)",
    re.DOTALL,
)
_RECIPIENT: Final = re.compile(r"\bto=([\w.:-]+)")
_WORDS: Final = re.compile(  # the same with the special tokens dropped by a decoder
    r"assistant[ \t]*(?P<channel>final|commentary[ \t]+to=(?P<to>[\w.]+)[ \t]*(?:code|json)?)", re.ASCII
)


@dataclass(frozen=True, slots=True)
class Harmony:
    """The parts of a Harmony turn."""

    text: str
    thought: str
    calls: tuple[tuple[str, str], ...]
    """Recipient and body of each call."""


def split_harmony(text: str) -> Harmony | None:
    """The parts of a raw Harmony turn; None for any other text."""
    if "<|message|>" in text and "<|channel|>" in text:
        return _split_tokens(text)
    if re.match(r"\s*analysis(?=[A-Z\"'(])", text):
        return _split_words(text)
    return None


def _split_tokens(text: str) -> Harmony:
    replies: list[str] = []
    thoughts: list[str] = []
    calls: list[tuple[str, str]] = []
    for message in _MESSAGE.finditer(text):
        role = (message["role"] or "assistant").strip()
        if not role.startswith("assistant"):
            break  # a tool's or user's turn that the model made up
        header = f"{role} {message['channel']}"
        recipient = _RECIPIENT.search(header)
        if recipient:
            calls.append((recipient[1], message["body"]))
        elif message["channel"].strip().startswith("analysis"):
            thoughts.append(message["body"].strip())
        else:
            replies.append(message["body"])
        if message["end"] in ("<|call|>", "<|return|>"):
            break
    return Harmony("\n\n".join(replies), "\n\n".join(thoughts), tuple(calls))


def _split_words(text: str) -> Harmony | None:
    found = list(_WORDS.finditer(text))
    if not found:
        return None
    last = found[-1]
    thought = text[: found[0].start()].strip().removeprefix("analysis")
    if last["to"]:
        return Harmony("", thought, ((last["to"], text[last.end() :]),))
    return Harmony(text[last.end() :], thought, ())
