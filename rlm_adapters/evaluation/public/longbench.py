"""LongBench-v2 (arXiv:2412.15204): its questions on code repositories, with the rules of its pred.py."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Final

from rlm_adapters.evaluation.public.rows import rows, text
from rlm_adapters.evaluation.tasks.task import Question

_DOMAIN: Final = "Code Repository Understanding"
_SAID: Final = (re.compile(r"The correct answer is \(([A-D])\)"), re.compile(r"The correct answer is ([A-D])"))
_BARE: Final = re.compile(r"\(?([A-D])\)?")
_QUESTION: Final = """What is the correct answer to this question: {question}
Choices:
(A) {A}
(B) {B}
(C) {C}
(D) {D}

Format your answer as follows: "The correct answer is (insert answer here)"."""


def read(path: Path) -> Iterator[Question]:
    """The questions on code repositories in a file."""
    for place, row in rows(path):
        if text(row, place, "domain") != _DOMAIN:
            continue
        choices = {letter: text(row, place, f"choice_{letter}") for letter in "ABCD"}
        answer = text(row, place, "answer")
        yield Question(
            text=_QUESTION.format(question=text(row, place, "question"), **choices),
            context=text(row, place, "context"),
            answer=answer,
            kind="text",
            judge=partial(choice, gold=answer),
        )


def choice(answer: str, *, gold: str) -> float:
    """1.0 if the requested sentence names the right letter, else 0.0. Only the letter is accepted, too."""
    said = answer.replace("*", "")
    found = next((one for pattern in _SAID if (one := pattern.search(said))), None) or _BARE.fullmatch(said.strip())
    return float(found is not None and found[1] == gold)
