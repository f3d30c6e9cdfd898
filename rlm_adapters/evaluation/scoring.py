"""Scoring: an answer is right if it is the right value, and nothing else is. No model judges."""

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
_MOST: Final = 1_000_000  # characters of an answer that are read


@dataclass(frozen=True, slots=True)
class Score:
    """What an answer is worth.

    Attributes:
        value: from 0 to 1: of a list the share that is right (F1 where the order does not matter).
        correct: the whole answer is right.
        why: what is wrong with it, in a few words.
    """

    value: float
    correct: bool
    why: str = ""


def score(question: Question, answer: Any) -> Score:
    """Score an answer.

    A text is read as a model writes it: what follows the last ``Answer:``, without a code fence; where a value is
    wanted, the only one in it. An answer that names several values where one is wanted is wrong.

    Args:
        question: with the right answer.
        answer: text, or plain JSON as an RLM submits it; None: there is none.
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
    """A score by the rules of a public data set."""
    right = value >= 1
    return Score(value, right, "" if right else "right in part" if value else "another answer")


def as_text(answer: Any) -> str:
    """An answer as official scorers want it: text. A list is told with commas, a dict of one value as this value."""
    if isinstance(answer, str):
        return answer
    if isinstance(answer, Mapping) and len(answer) == 1:
        return as_text(next(iter(answer.values())))
    if isinstance(answer, list | tuple):
        return ", ".join(as_text(one) for one in answer)
    return json.dumps(answer, default=str) if isinstance(answer, Mapping) else str(answer)


def _plain(answer: Any) -> Any:
    """The value in an answer: JSON in a text, the only value of a dict, what follows ``Answer:``."""
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
        return Score(0.0, correct=False, why=f"{len(found)} numbers where one is wanted")
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
    """The numbers of an answer, whatever its form."""
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
    """Parts of a text in which a comma belongs to a number: ``1,234`` but not ``1, 2`` nor ``12345,67890``."""
    return re.split(r",(?!\d{3}(?!\d))|(?<=\d{4}),", text)


def _bare(value: Any) -> str:
    return " ".join(str(value).strip(_AROUND).casefold().split())
