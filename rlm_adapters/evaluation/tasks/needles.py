"""Needles in prose: one (S-NIAH of RULER), several, or none but two that are similar."""

from __future__ import annotations

import random
from typing import Final

from rlm_adapters.evaluation.tasks.prose import CITIES, haystack
from rlm_adapters.evaluation.tasks.task import NOT_FOUND, Question

_ASK: Final = "What {what} for {city} mentioned in the context?"
_SEVERAL: Final = 4
_DISTRACTORS: Final = 6


def s_niah(chance: random.Random, size: int) -> Question:
    """One number that the prose mentions once."""
    city, *_ = chance.sample(CITIES, 1)
    number = _number(chance)
    return Question(
        text=f"{_ASK.format(what='is the special magic number', city=city)} Reply with the number alone.",
        context=haystack(chance, size, [_said(city, number)]),
        answer=number,
        kind="number",
    )


def multi_needle(chance: random.Random, size: int) -> Question:
    """Several numbers for one city, among those for others."""
    city, *others = chance.sample(CITIES, _DISTRACTORS + 1)
    numbers = [_number(chance) for _ in range(_SEVERAL)]
    needles = [_said(city, number) for number in numbers] + [_said(other, _number(chance)) for other in others]
    chance.shuffle(needles)
    return Question(
        text=f"{_ASK.format(what='are all the special magic numbers', city=city)} Reply with a JSON list of numbers.",
        context=haystack(chance, size, needles),
        answer=sorted(numbers),
        kind="items",
    )


def absent_answer(chance: random.Random, size: int) -> Question:
    """A number that is not in the context, which has two similar ones: of another city, and of another kind."""
    city, other = chance.sample(CITIES, 2)
    near = [_number(chance), _number(chance)]
    needles = [_said(other, near[0]), f"The special lucky number for {city} is: {near[1]}."]
    return Question(
        text=f"{_ASK.format(what='is the special magic number', city=city)} Reply with the number alone, "
        f"or with {NOT_FOUND} if the context does not give it.",
        context=haystack(chance, size, needles),
        answer=NOT_FOUND,
        kind="absent",
        decoys=tuple(map(str, near)),
    )


def _said(city: str, number: int) -> str:
    return f"One of the special magic numbers for {city} is: {number}."


def _number(chance: random.Random) -> int:
    return chance.randrange(1_000_000, 10_000_000)
