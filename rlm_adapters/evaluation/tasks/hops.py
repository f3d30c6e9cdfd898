"""A chain of facts in several documents. Each document names the next."""

from __future__ import annotations

import random
from typing import Final

from rlm_adapters.evaluation.tasks.prose import CITIES, haystack, names
from rlm_adapters.evaluation.tasks.task import Question

_DOCUMENT: Final = 3_000  # bytes, about
_MOST_CHAINS: Final = 40
_OBJECTS: Final = (
    "lantern",
    "ledger",
    "compass",
    "tapestry",
    "violin",
    "globe",
    "sextant",
    "medal",
    "goblet",
    "mosaic",
)
_SHADES: Final = ("amber", "ivory", "copper", "cobalt", "scarlet", "silver", "jade", "ebony")


def multi_hop(chance: random.Random, size: int) -> Question:
    """The owner of an object, the owner's teacher, the teacher's employer, and its town: four documents."""
    objects = [f"{shade} {thing}" for shade in _SHADES for thing in _OBJECTS]
    chains = min(_MOST_CHAINS, max(3, size // (4 * _DOCUMENT)))
    things = chance.sample(objects, chains)
    people = names(chance, 2 * chains)
    guilds = chance.sample(range(100, 1_000), chains)
    facts, towns = [], []
    for place in range(chains):
        owner, teacher, guild = people[2 * place], people[2 * place + 1], f"Guild {guilds[place]}"
        towns.append(chance.choice(CITIES))
        facts += [
            f"The {things[place]} belongs to {owner}.",
            f"{owner} was taught by {teacher}.",
            f"{teacher} worked for {guild}.",
            f"{guild} has its seat in {towns[-1]}.",
        ]
    chance.shuffle(facts)
    count = max(4, size // _DOCUMENT)
    parts: list[list[str]] = [[] for _ in range(count)]
    for place, fact in enumerate(facts):
        parts[place % count].append(fact)
    chance.shuffle(parts)
    documents = [haystack(chance, size // count - 20, part) for part in parts]
    return Question(
        text=f"In which town is the seat of the guild that the teacher of the owner of the {things[0]} worked for? "
        "Reply with the town alone.",
        context=documents,
        answer=towns[0],
        kind="text",
    )
