"""RULER (arXiv:2404.06654): the output of its prepare.py, with the rules of its scripts/eval."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.public.rows import field, rows, text
from rlm_adapters.evaluation.tasks.task import Question

_CONTROL: Final = re.compile(r"[\x00-\x1f]")


def read(path: Path) -> Iterator[Question]:
    """Questions of the file of a task, or of the folder of all tasks. The folder name is the name of the task."""
    for place, row in rows(path):
        outputs = [str(one) for one in _listed(field(row, place, "outputs"), place)]
        whole = text(row, place, "input").rstrip()
        context, _, asked = whole.rpartition("\n")  # every template ends with the question
        yield Question(
            text=f"{asked}{row.get('answer_prefix') or ''}",
            context=context,
            answer=outputs,
            kind="text",
            judge=partial(match, wanted=outputs, any_of_them=_is_qa(place)),
        )


def match(answer: str, *, wanted: list[str], any_of_them: bool) -> float:
    """The share of the references that an answer contains; with ``any_of_them``, 1 if it contains one."""
    said = _CONTROL.sub("\n", answer.strip()).strip().lower()
    found = [one.lower() in said for one in wanted]
    return float(any(found)) if any_of_them else sum(found) / len(found)


def _listed(outputs: object, place: str) -> list[object]:
    if not isinstance(outputs, list) or not outputs:
        raise InputError(f"{place}: outputs={str(outputs)[:80]!r} is not a list: give the file in its published form")
    return outputs


def _is_qa(place: str) -> bool:
    """Whether it is a question on documents, which has several forms of one answer."""
    path = Path(place.rpartition(", ")[0])
    return path.stem.startswith("qa") or path.parent.name.startswith("qa")
