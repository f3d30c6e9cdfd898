"""OOLONG (arXiv:2511.02817), synthetic and real, with the rules of its src/eval/eval_helpers.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import date, datetime
from functools import partial
from pathlib import Path
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.public.rows import rows, text
from rlm_adapters.evaluation.tasks.task import Question

_SHARE: Final = 0.75
"""Score of a number that is wrong by one; if it is wrong by two, the square of it, and so on."""
_COMPARED: Final = ("more common", "less common", "same frequency")
_SHORT: Final = 20
_BOXED: Final = (re.compile(r"\\boxed\{\\text\{([^}]*)\}\}"), re.compile(r"\\boxed\{+([^}]*)\}+"))
_DATES: Final = ("%Y-%m-%d", "%Y/%m/%d", "%B %d, %Y", "%b %d, %Y", "%d %B %Y", "%d %b %Y", "%m/%d/%Y")
_GOLD_DATE: Final = re.compile(r"\[datetime\.date\((\d+), (\d+), (\d+)\)\]")


def read(path: Path) -> Iterator[Question]:
    """Questions of a file: rows of the synthetic half have an ``answer_type``, those of the real half have none."""
    for place, row in rows(path):
        answer = text(row, place, "answer")
        if row.get("answer_type"):
            judge = partial(synthetic, gold=_gold(answer, place), kind=str(row["answer_type"]))
        else:
            judge = partial(real, gold=answer)
        yield Question(
            text=text(row, place, "question"),
            context=text(row, place, "context_window_text"),
            answer=answer,
            kind="text",
            judge=judge,
        )


def synthetic(answer: str, *, gold: Any, kind: str) -> float:
    """The score of an answer to a synthetic question.

    Args:
        answer: text.
        gold: the right answer.
        kind: ``ANSWER_TYPE.NUMERIC``, ``ANSWER_TYPE.DATE``, or another.
    """
    said = _last_part(answer)
    if said == str(gold):
        return 1.0
    if said in _COMPARED:
        return float(said in str(gold))
    if kind == "ANSWER_TYPE.NUMERIC":
        return _number(said, gold)
    if kind == "ANSWER_TYPE.DATE":
        return float(isinstance(gold, date) and _date(said) == gold)
    return 0.0


def real(answer: str, *, gold: str) -> float:
    """The score of an answer to a question of the real half: a number, a text, or a list with commas."""
    boxed = next((found[1] for pattern in _BOXED if (found := pattern.search(answer))), None)
    said, right = _value(answer.strip() if boxed is None else boxed), _value(gold)
    if isinstance(right, int) and isinstance(said, int):
        return _number(str(said), right)
    if isinstance(right, str) and isinstance(said, str):
        return float(right.strip().lower() == said.strip().lower())
    if isinstance(right, list) and isinstance(said, list):
        return len(set(right) & set(said)) / len(right) if right else 0.0
    return 0.0


def _gold(answer: str, place: str) -> Any:
    """Read a right answer, which is written as a Python list of one value or date."""
    if found := _GOLD_DATE.fullmatch(answer.strip()):
        return date(int(found[1]), int(found[2]), int(found[3]))
    try:
        return ast.literal_eval(answer)[0]
    except (ValueError, SyntaxError, TypeError, LookupError, RecursionError, MemoryError) as error:
        raise InputError(f"{place}: answer={answer[:80]!r} is not a list of one value, as in OOLONG") from error


def _last_part(answer: str) -> str:
    """The text after the last colon. Without a colon: a short answer unchanged, or the last word of a long one."""
    if ":" not in answer:
        return answer if len(answer) < _SHORT else (answer.split() or [""])[-1]
    said = answer.rpartition(":")[2].strip().translate({ord(sign): None for sign in "*[]"})
    if len(said) < _SHORT:
        return said
    return next((words for words in _COMPARED if words in said), said)


def _number(said: str, gold: Any) -> float:
    try:
        return float(_SHARE ** min(abs(int(gold) - int(said)), 1_000))
    except (ValueError, TypeError):
        return 0.0


def _date(said: str) -> date | None:
    for form in _DATES:
        try:
            return datetime.strptime(said.strip(), form).date()  # noqa: DTZ007 - a day has no zone
        except ValueError:
            continue
    return None


def _value(told: str) -> int | str | list[str]:
    try:
        return int(told)
    except ValueError:
        parts = [part.strip() for part in told.split(",") if part.strip()]
        return parts if "," in told else told
