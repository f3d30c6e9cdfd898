"""Step two: remove thoughts. Code and FINAL inside a thought are not part of the reply."""

from __future__ import annotations

import itertools
import re
from bisect import bisect_right
from dataclasses import dataclass
from typing import Final

from rlm_adapters.replies.clean import Quotes

_NAMES: Final = (
    r"(?:[\w.-]+:)?(?:think|thinking|thoughts?|reasoning|reflection|scratchpad|analysis|antthinking|inner_monologue)"
)
_TAG: Final = re.compile(
    rf"(?P<open><{_NAMES}>|◁think▷|\[THINK\]|<\|begin_of_thought\|>)"
    rf"|(?P<close></{_NAMES}>|◁/think▷|\[/THINK\]|<\|end_of_thought\|>)",
    re.IGNORECASE,
)
_FENCE_LINE: Final = re.compile(r"^[ \t>]*(?P<mark>`{3,}|~{3,})(?P<info>[^\n]*)$", re.MULTILINE)
_MAX_TAGS: Final = 400
_MAX_LEADING: Final = 10


@dataclass(frozen=True, slots=True)
class Spoken:
    """A reply without its thoughts."""

    text: str
    thought: str
    unclosed: bool
    """A thought has no end, so there is no text."""


def drop_thoughts(text: str) -> Spoken:
    """Remove thoughts outside fences.

    A block at the start is removed with all its content. Then everything up to the last close without an opening tag is
    removed: the opening tag may have been part of the chat template.
    """
    thoughts, rest = _leading(text)
    if rest is None:
        return Spoken("", "\n\n".join(thoughts), unclosed=True)
    tags = _outside_fences(rest)
    swallowed, start, tags = _up_to_stray_close(rest, tags)
    inner, spoken = _blocks(rest, start, tags)
    return Spoken(spoken, "\n\n".join(t for t in (*thoughts, *swallowed, *inner) if t), unclosed=False)


def _leading(text: str) -> tuple[list[str], str | None]:
    """The thoughts at the start of the text, and the text after them; None if the last thought has no end."""
    thoughts: list[str] = []
    rest = text
    for _ in range(_MAX_LEADING):
        start = _TAG.match(rest.lstrip())
        if not start or not start["open"]:
            break
        body = rest.lstrip()[start.end() :]
        close = _close_of(body)
        if close is None:
            return [*thoughts, body.strip()], None
        thoughts.append(body[: close.start()].strip())
        rest = body[close.end() :]
    return thoughts, rest


def _up_to_stray_close(text: str, tags: list[re.Match[str]]) -> tuple[list[str], int, list[re.Match[str]]]:
    """The thought that ends at the last close without an opening, where the text continues, and the tags from there."""
    stray = [tag for index, tag in enumerate(tags) if tag["close"] and not _pairs(tags, index)]
    if not stray:
        return [], 0, tags
    last = stray[-1]
    return [text[: last.start()].strip()], last.end(), [tag for tag in tags if tag.start() > last.start()]


def _blocks(text: str, start: int, tags: list[re.Match[str]]) -> tuple[list[str], str]:
    """The thoughts that start on a new line, and the text after ``start`` without them."""
    thoughts: list[str] = []
    kept: list[str] = []
    position = start
    for index, tag in enumerate(tags):
        if tag.start() < position or not tag["open"] or not _begins_line(text, tag.start()):
            continue
        kept.append(text[position : tag.start()])
        closing = next((later for later in tags[index + 1 :] if later["close"]), None)
        position = closing.end() if closing else len(text)
        thoughts.append(text[tag.end() : closing.start() if closing else position].strip())
    return thoughts, "".join([*kept, text[position:]])


def _pairs(tags: list[re.Match[str]], index: int) -> bool:
    return index > 0 and bool(tags[index - 1]["open"])


def _close_of(body: str) -> re.Match[str] | None:
    """The close of a thought at the start: the first outside a fence, if there is one, else the first."""
    outside = [tag for tag in _outside_fences(body) if tag["close"]]
    if outside:
        return outside[0]
    return next((tag for tag in _TAG.finditer(body) if tag["close"]), None)


def _outside_fences(text: str) -> list[re.Match[str]]:
    starts, inside = _fence_spans(text)
    tags: list[re.Match[str]] = []
    quotes = Quotes(text)
    for tag in itertools.islice(_TAG.finditer(text), _MAX_TAGS):
        if quotes.surround(tag.start(), tag.end()) or _in_finish(text, tag):
            continue
        span = bisect_right(starts, tag.start()) - 1
        if span >= 0 and tag.start() < inside[span] and not (tag["close"] and _alone(text, tag, starts[span])):
            continue
        tags.append(tag)
    return tags


def _fence_spans(text: str) -> tuple[list[int], list[int]]:
    starts: list[int] = []
    ends: list[int] = []
    mark = ""
    for line in _FENCE_LINE.finditer(text):
        if not mark:
            if line["mark"][0] in line["info"]:  # opened and closed on one line
                continue
            mark = line["mark"]
            starts.append(line.end())
        elif line["mark"].startswith(mark) and not line["info"].strip():
            ends.append(line.start())
            mark = ""
    if mark:
        ends.append(len(text))
    return starts, ends


def _alone(text: str, tag: re.Match[str], fence: int) -> bool:
    """A close on a separate line ends a thought with an open fence, unless it is part of a string."""
    line_end = text.find("\n", tag.end())
    tail = text[tag.end() : line_end if line_end >= 0 else len(text)]
    if tail.strip() or not _begins_line(text, tag.start()):
        return False
    return all(text.count(quote, fence, tag.start()) % 2 == 0 for quote in ('"""', "'''"))


def _begins_line(text: str, position: int) -> bool:
    return not text[text.rfind("\n", 0, position) + 1 : position].strip()


def _in_finish(text: str, tag: re.Match[str]) -> bool:
    """Whether the tag is part of an answer: ``FINAL(The tag </think> ends a thought)``."""
    line_end = text.find("\n", tag.end())
    before = text[text.rfind("\n", 0, tag.start()) + 1 : tag.start()]
    after = text[tag.end() : line_end if line_end >= 0 else len(text)]
    return before.lstrip(" *>#-").startswith("FINAL(") and after.rstrip(" *`.").endswith(")")
