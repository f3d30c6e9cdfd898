"""A task: a question over a context, and what answers it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

Split: TypeAlias = Literal["train", "held_out"]
"""Which half of all seeds: a prompt is optimised on the one, and judged on the other."""

SPLITS: tuple[Split, ...] = get_args(Split)

Kind: TypeAlias = Literal["number", "text", "items", "list", "pairs", "absent"]
"""What an answer is, and so how it is scored (`rlm_adapters.evaluation.scoring`)."""

NOT_FOUND = "NOT FOUND"
"""The answer where the context holds none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """What a family makes of a size and a source of chance.

    Attributes:
        text: the question, with the form of the answer.
        context: a text, or a list of documents.
        answer: the right answer, as plain JSON.
        kind: what it is.
        decoys: values in the context that a wrong reading would give.
        files: by name, bytes of files that a run gets in place of the context.
        judge: scores the text of an answer from 0 to 1, in place of ``kind``: the rules of a public data set.
    """

    text: str
    context: str | list[str]
    answer: Any
    kind: Kind
    decoys: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    judge: Callable[[str], float] | None = None


Family: TypeAlias = Callable[[random.Random, int], Question]
"""Makes a question about a context of so many bytes; the same chance gives the same question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of an evaluation.

    Attributes:
        family: its name in `FAMILIES`.
        size: of the context, in bytes.
        split: which half of the seeds it is of.
        seed: of the evaluation.
        number: of the task, among those of its family, size and seed.
        question: made from all of these, and from nothing else.
        name: id of a task that was not made from a seed.
    """

    family: str
    size: int
    split: Split
    seed: int
    number: int
    question: Question = field(repr=False)
    name: str | None = None

    @property
    def id(self) -> str:
        """Tells what the task was made from."""
        return self.name or task_id(self.family, self.size, self.split, self.seed, self.number)


def task_id(family: str, size: int, split: str, seed: int, number: int) -> str:
    """The id of a task, without making it."""
    return f"{family}/{size}/{split}/{seed}/{number}"
