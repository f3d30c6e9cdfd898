# ruff: noqa: RUF001 - the characters that models write are the subject
"""Step one: the assistant's own turn as plain text, without the marks of its chat template."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_left, bisect_right
from functools import cached_property
from typing import Final

INVISIBLE: Final = "\u200b\u200c\u200d\u2060\ufeff\u00ad\u200e\u200f"
"""Characters without width: a reply or the start of a line that has only these looks empty."""

_BEGIN: Final = re.compile(
    r"(?:\s|<s>|<bos>|<\|begin_of_text\|>|<｜begin▁of▁sentence｜>|\[/INST\]|<\|assistant\|>|<｜Assistant｜>|<\|im_sep\|>"
    r"|<\|im_start\|>[ \t]*(?:assistant)?[ \t]*(?:\n|$)?|<start_of_turn>[ \t]*model[ \t]*(?:\n|$)"
    r"|<\|start_header_id\|>[ \t]*assistant[ \t]*<\|end_header_id\|>|<\|header_start\|>assistant<\|header_end\|>"
    r"|<\|START_OF_TURN_TOKEN\|><\|CHATBOT_TOKEN\|>|<\|START_RESPONSE\|>|(?:Assistant|ASSISTANT|AI):(?=\s))*",
)
_END: Final = re.compile(
    r"<\|(?:im_end|im_start|endoftext|eot_id|eom_id|eot|end_of_text|end_of_turn|end|eos|return|call|user|observation"
    r"|tool_response|start_header_id|header_start|END_OF_TURN_TOKEN|END_RESPONSE|endofresponse|endofprompt)\|>"
    r"|<(?:end_of_turn|start_of_turn|eos|end_code)>|</s>|<｜(?:end▁of▁sentence|User|tool▁outputs▁begin)｜>|\[/?INST\]",
)
_MAX_END_MARKS: Final = 200


def normalise_lines(text: str) -> str:
    """The text with LF as line ends, because all later steps match lines."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def is_blank(text: str) -> bool:
    """Whether the text has no visible character."""
    return not text.translate(dict.fromkeys(map(ord, INVISIBLE))).strip()


def own_turn(text: str) -> str:
    """The text up to the first end-of-turn mark, without the marks that open the turn.

    The text after the mark is a turn of somebody else that the model invented.
    """
    start = _BEGIN.match(text)
    if start is not None:
        text = text[start.end() :] if text[: start.end()].strip() else text
    quotes = Quotes(text)
    for mark in itertools.islice(_END.finditer(text), _MAX_END_MARKS):
        if not _is_data(text, mark, quotes):
            return text[: mark.start()]
    return text


def _is_data(text: str, mark: re.Match[str], quotes: Quotes) -> bool:
    """Whether the mark is in a string or in markup: code that handles transcripts contains these tokens."""
    if mark[0] == "</s>" and "<s>" in text[text.rfind("\n", 0, mark.start()) + 1 : mark.start()]:
        return True
    return quotes.surround(mark.start(), mark.end())


class Quotes:
    """The quote marks of a text, found once for all positions that are asked for."""

    def __init__(self, text: str) -> None:
        self._text = text

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        return {
            quote: [found.start() for found in re.finditer(quote, self._text)]
            for quote in ('"', "'", "`", '"""', "'''")
        }

    def surround(self, start: int, end: int) -> bool:
        """Whether the span is between quote marks: on its line, or within triple quotes."""
        line_start = self._text.rfind("\n", 0, start) + 1
        line_end = self._text.find("\n", end)
        line_end = line_end if line_end >= 0 else len(self._text)
        for quote, places in self._places.items():
            first, last = (line_start, line_end) if len(quote) == 1 else (0, len(self._text))
            before = bisect_right(places, start - len(quote)) - bisect_left(places, first)
            if before % 2 == 1 and self._text.find(quote, end, last) >= 0:
                return True
        return False
