"""Scoring: an answer is right only if it is the right value. No model judges."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from rlm_adapters.evaluation.tasks.task import NOT_FOUND, Question

_NUMBER: Final = re.compile(r"(?<![\w.])-?\d[\d,]*(?:\.\d+)?")
_ANSWER: Final = re.compile(r"(?:final\s+)?answer\s*(?:is)?\s*[:=]", re.IGNORECASE)
_FENCE: Final = re.compile(r"^```\w*\n(.*?)\n?```$", re.DOTALL)
_PAIR: Final = re.compile(r"[\[(]\s*(\d+)\s*,\s*(\d+)\s*[\])]")
_AROUND: Final = " \t\r\n\"'`*_.,;:!()[]{}"
_MOST: Final = 1_000_000  # longest answer that is read, in characters


@dataclass(frozen=True, slots=True)
class Score:
    """The score of an answer.

    Attributes:
        value: from 0 to 1; for a list the share that is right (F1 if the order does not matter).
        correct: whether the whole answer is right.
        why: what is wrong with it, in a few words.
    """

    value: float
    correct: bool
    why: str = ""


def score(question: Question, answer: Any) -> Score:
    """Score an answer.

    Of a text, the part after the last ``Answer:`` counts, without a code fence. If a single value is expected, it must
    be the only one in the text.

    Args:
        question: with the right answer.
        answer: text, or plain JSON as an RLM submits it; None: there is no answer.
    """
    if answer is None:
        return Score(0.0, correct=False, why="no answer")
    if question.judge is not None:
        return _judged(question.judge(as_text(answer)[-_MOST:]))
    try:
        return _SCORERS[question.kind](question, _plain(answer))
    except RecursionError:
        return Score(0.0, correct=False, why="nested too deeply")


def _judged(value: float) -> Score:
    """A score that the rules of a public data set gave."""
    right = value >= 1
    return Score(value, right, "" if right else "right in part" if value else "another answer")


def as_text(answer: Any) -> str:
    """An answer as text, for official scorers. A list is joined with commas; a dict of one value becomes this value."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Mapping) and len(answer) == 1:
        return as_text(next(iter(answer.values())))
    if isinstance(answer, list | tuple):
        return ", ".join(as_text(one) for one in answer)
    return json.dumps(answer, default=str) if isinstance(answer, Mapping) else str(answer)


def _plain(answer: Any) -> Any:
    """The value in an answer: JSON in a text, the only value of a dict, the text after ``Answer:``."""
    if isinstance(answer, str):
        text = answer[-_MOST:].strip()
        text = _ANSWER.split(text)[-1].strip()
        fenced = _FENCE.match(text)
        text = fenced[1].strip() if fenced else text
        try:
            return _plain(json.loads(text)) if text[:1] in ("{", "[", '"') else text
        except (ValueError, RecursionError):
            return text
    if isinstance(answer, Mapping) and len(answer) == 1:
        return _plain(next(iter(answer.values())))
    return answer


def _number(question: Question, answer: Any) -> Score:
    found = _numbers(answer)
    if len(found) != 1:
        return Score(0.0, correct=False, why=f"{len(found)} numbers instead of one")
    right = found == {float(question.answer)}
    return Score(float(right), right, "" if right else "another number")


def _text(question: Question, answer: Any) -> Score:
    right = _bare(answer) == _bare(question.answer)
    return Score(float(right), right, "" if right else "another text")


def _absent(question: Question, answer: Any) -> Score:
    text = _bare(answer if isinstance(answer, str) else json.dumps(answer, default=str))
    begins = text.startswith(_bare(NOT_FOUND))
    named = [decoy for decoy in question.decoys if decoy in text.replace(",", "")]
    right = begins and not named
    return Score(
        float(right), right, "" if right else "names a near miss" if named else "does not say that it is absent"
    )


def _items(question: Question, answer: Any) -> Score:
    return _f1(_numbers(answer), {float(one) for one in question.answer})


def _pairs(question: Question, answer: Any) -> Score:
    text = answer if isinstance(answer, str) else json.dumps(answer, default=str)
    found = {tuple(sorted((int(one), int(other)))) for one, other in _PAIR.findall(text.replace('"', ""))}
    return _f1(found, {tuple(sorted(pair)) for pair in question.answer})


def _list(question: Question, answer: Any) -> Score:
    """Item by item, in order."""
    given = answer if isinstance(answer, list) else [part for part in re.split(r"[\s,]+", str(answer)) if part]
    bare = [_bare(one) for one in given]
    wanted = [_bare(one) for one in question.answer]
    same = sum(one == other for one, other in zip(bare, wanted, strict=False))
    right = bare == wanted
    why = "" if right else f"{same} of {len(wanted)} in place, {len(bare)} given"
    return Score(1.0 if right else same / max(len(wanted), len(bare)), right, why)


_SCORERS: Final = {
    "number": _number,
    "text": _text,
    "absent": _absent,
    "items": _items,
    "pairs": _pairs,
    "list": _list,
}


def _f1(found: set[Any], wanted: set[Any]) -> Score:
    both = len(found & wanted)
    value = 2 * both / (len(found) + len(wanted)) if both else 0.0
    right = found == wanted
    return Score(value, right, "" if right else f"{both} of {len(wanted)} found, {len(found) - both} wrong")


def _numbers(answer: Any) -> set[float]:
    """The numbers in an answer of any form."""
    if isinstance(answer, bool):
        return set()
    if isinstance(answer, int | float):
        return {float(answer)} if abs(answer) < 1e300 else set()
    if isinstance(answer, str):
        found = (_NUMBER.findall(part) for part in _tokens(answer))
        return {float(one.replace(",", "")) for part in found for one in part if len(one) < 300}
    if isinstance(answer, Mapping):
        return _numbers(list(answer.values()))
    if isinstance(answer, Iterable):
        return {one for part in answer for one in _numbers(part)}
    return set()


def _tokens(text: str) -> list[str]:
    """Parts of a text. A comma can belong to a number: in ``1,234``, but not in ``1, 2`` or ``12345,67890``."""
    return re.split(r",(?!\d{3}(?!\d))|(?<=\d{4}),", text)


def _bare(value: Any) -> str:
    return " ".join(str(value).strip(_AROUND).casefold().split())
