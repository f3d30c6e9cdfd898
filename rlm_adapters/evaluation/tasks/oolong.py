"""Questions over many labelled lines, as in OOLONG and OOLONG-Pairs. Only the meaning of a line tells its label."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from typing import Final

from rlm_adapters.evaluation.tasks.labels import LABELS, draw
from rlm_adapters.evaluation.tasks.task import Question

_LINE: Final = 90  # bytes, about
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_USERS: Final = 12
_MOST_PAIRED: Final = 20
_HEAD: Final = (
    "The following lines contain {count} general-knowledge questions, one a line. Each line has a date, a user and an "
    "instance; the instance is the question. Each question falls into one of 6 categories, which are not given: "
    "{labels}.\n\n"
)
_KINDS: Final = f"(The categories are: {', '.join(repr(label) for label in LABELS)}.)"


def counts(chance: random.Random, size: int) -> Question:
    """How many lines have a label."""
    label = chance.choice(LABELS)
    lines = _drawn(chance, size, _users(chance, _USERS), LABELS)
    return Question(
        text=f"How many of the questions in the context ask for something of the category {label!r}? {_KINDS} "
        "Reply with the number alone.",
        context=_text(chance, lines),
        answer=sum(kind == label for _, kind in lines),
        kind="number",
    )


def users(chance: random.Random, size: int) -> Question:
    """Which user has the most lines of a label. No other user has the same number."""
    label, known = chance.choice(LABELS), _users(chance, _USERS)
    lines = _drawn(chance, size, known, LABELS)
    found = Counter(user for user, kind in lines if kind == label)
    first = chance.choice(known)
    lead = max(found.values(), default=0) - found[first] + 1
    others = [place for place, (user, kind) in enumerate(lines) if user != first and kind != label]
    for place in chance.sample(others, min(lead, len(others))):
        lines[place] = (first, label)
    return Question(
        text=f"Which user asked the most questions of the category {label!r}? {_KINDS} Reply with the user's number "
        "alone.",
        context=_text(chance, lines),
        answer=first,
        kind="number",
    )


def pairs(chance: random.Random, size: int) -> Question:
    """In which pairs of users both users have lines of two labels."""
    first, second = chance.sample(LABELS, 2)
    count = min(_MOST_PAIRED, max(6, size // (_LINE * 12)))
    known = _users(chance, count)
    having = set(chance.sample(known, max(3, count // 3)))
    lines = []
    for user in known:  # only few lines matter, so none of them can be left out
        labels = (first, second) if user in having else (chance.choice((first, second)),)
        lines += [(user, label) for label in labels for _ in range(chance.randint(1, 2))]
    rest = [label for label in LABELS if label not in (first, second)]
    count = max(0, size // _LINE - len(lines))
    lines += zip(chance.choices(known, k=count), chance.choices(rest, k=count), strict=True)
    chance.shuffle(lines)
    ordered = sorted(having)
    return Question(
        text=f"List all pairs of users of whom both have at least one question of the category {first!r} and at least "
        f"one of the category {second!r}. {_KINDS} Reply with a JSON list of pairs of user numbers, the lower one "
        "first in each.",
        context=_text(chance, lines),
        answer=[[one, other] for place, one in enumerate(ordered) for other in ordered[place + 1 :]],
        kind="pairs",
    )


def _users(chance: random.Random, count: int) -> list[int]:
    return chance.sample(range(10_000, 100_000), count)


def _drawn(chance: random.Random, size: int, known: Sequence[int], labels: Sequence[str]) -> list[tuple[int, str]]:
    count = max(len(labels), size // _LINE)
    weights = [chance.randint(1, 4) for _ in labels]
    return list(zip(chance.choices(known, k=count), chance.choices(labels, weights, k=count), strict=True))


def _text(chance: random.Random, lines: Sequence[tuple[int, str]]) -> str:
    head = _HEAD.format(count=len(lines), labels=", ".join(LABELS))
    return head + "\n".join(
        f"Date: {chance.choice(_MONTHS)} {chance.randint(1, 28):02}, 2024 || User: {user} || "
        f"Instance: {draw(chance, label)}"
        for user, label in lines
    )
