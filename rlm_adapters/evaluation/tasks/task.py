"""A task: a question about a context, and the right answer."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

Split: TypeAlias = Literal["train", "held_out"]
"""The half of all seeds. A prompt is optimised on one half and judged on the other."""

SPLITS: tuple[Split, ...] = get_args(Split)

Kind: TypeAlias = Literal["number", "text", "items", "list", "pairs", "absent"]
"""The kind of an answer. It decides how the answer is scored (`rlm_adapters.evaluation.scoring`)."""

NOT_FOUND = "NOT FOUND"
"""The answer if the context has none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """A question that a family makes for a size and a random source.

    Attributes:
        text: the question, with the form of the answer.
        context: a text, or a list of documents.
        answer: the right answer, as plain JSON.
        kind: kind of the answer.
        decoys: wrong values in the context that are similar to the answer.
        files: bytes of files by name, which a run gets instead of the context.
        judge: scores the text of an answer from 0 to 1, by the rules of a public data set. Used instead of ``kind``.
    """

    text: str
    context: str | list[str]
    answer: Any
    kind: Kind
    decoys: tuple[str, ...] = ()
    files: Mapping[str, bytes] = field(default_factory=dict)
    judge: Callable[[str], float] | None = None


Family: TypeAlias = Callable[[random.Random, int], Question]
"""Makes a question about a context of this many bytes. The same random source gives the same question."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One task of an evaluation.

    Attributes:
        family: name of its family in `FAMILIES`.
        size: size of the context, in bytes.
        split: the half of the seeds.
        seed: seed of the evaluation.
        number: index of the task among those of its family, size and seed.
        question: made only from the fields above.
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
        """Id with the parameters from which the task was made."""
        return self.name or task_id(self.family, self.size, self.split, self.seed, self.number)


def task_id(family: str, size: int, split: str, seed: int, number: int) -> str:
    """The id of a task, without making it."""
    return f"{family}/{size}/{split}/{seed}/{number}"
