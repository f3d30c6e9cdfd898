"""BrowseComp-Plus (arXiv:2508.06600): questions, each with the documents that were collected for it.

The official scorer asks a model whether an answer means the same. Here no model judges: an answer is right if it
contains the words of the right one, one after the other. Case, accents, articles and punctuation do not matter. So the
figures may differ a little from official ones.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.public.rows import rows, text
from rlm_adapters.evaluation.tasks.task import Question

_KINDS: Final = ("gold_docs", "evidence_docs", "negative_docs")
_ASKED: Final = "{query}\n\nGive the exact answer alone, without an explanation."
_LINE: Final = re.compile(r"(?:final\s+|exact\s+)?answer\s*:", re.IGNORECASE)


def read(path: Path) -> Iterator[Question]:
    """Questions of a file, each with its documents. A text that is in several lists is used only once."""
    for place, row in rows(path):
        documents: dict[str, str] = {}
        for kind in _KINDS:
            for one in row.get(kind) or ():
                _take(documents, one, f"{place}, {kind}")
        if not documents:
            raise InputError(f"{place} has none of {', '.join(_KINDS)}: give the file in its published form")
        answer = text(row, place, "answer")
        yield Question(
            text=_ASKED.format(query=text(row, place, "query")),
            # Sorted by id: an order by kind would show which documents have the answer.
            context=[documents[name] for name in sorted(documents)],
            answer=answer,
            kind="text",
            judge=partial(same, gold=answer),
        )


def same(answer: str, *, gold: str) -> float:
    """1.0 if an answer is or contains the right one, else 0.0."""
    said, right = _words(_LINE.split(answer)[-1]), _words(gold)
    return float(bool(right) and f" {right} " in f" {said} ")


def _take(documents: dict[str, str], one: Any, place: str) -> None:
    if not isinstance(one, Mapping):
        raise InputError(f"{place}: {str(one)[:80]!r} is not a document: give the file in its published form")
    documents.setdefault(str(one.get("docid")), text(one, place, "text"))


def _words(told: str) -> str:
    plain = unicodedata.normalize("NFKD", told.casefold())
    letters = "".join(sign for sign in plain if not unicodedata.combining(sign))
    return " ".join(word for word in re.findall(r"\w+", letters) if word not in {"a", "an", "the"})
