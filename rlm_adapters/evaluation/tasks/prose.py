"""Meaningless prose of any length, with inserted sentences."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

CITIES: Final = (
    "Aberdeen", "Bergamo", "Cadiz", "Dakar", "Eger", "Faro", "Ghent", "Hobart", "Izmir", "Jaipur", "Kyoto", "Lublin",
    "Malmo", "Nairobi", "Odessa", "Porto", "Quito", "Riga", "Split", "Tartu", "Utrecht", "Varna", "Windhoek", "Xalapa",
    "York", "Zadar", "Arles", "Bruges", "Cork", "Delft", "Essen", "Fano", "Genoa", "Haifa", "Ipoh", "Jena", "Kosice",
    "Lima", "Mainz", "Nantes",
)  # fmt: skip

FIRST: Final = (
    "Ada", "Boris", "Clara", "Dmitri", "Elena", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Katya", "Liam", "Mona",
    "Nils", "Olga", "Pavel", "Rosa", "Stefan", "Tamar", "Ulrich", "Vera", "Walter", "Xenia", "Yusuf", "Zoe",
)  # fmt: skip

LAST: Final = (
    "Abara", "Brandt", "Castellan", "Dorner", "Ekberg", "Falk", "Grunwald", "Haverford", "Ibsen", "Jankovic", "Keller",
    "Lindqvist", "Moreau", "Novak", "Okafor", "Petrov", "Quist", "Rahimi", "Santos", "Tanaka", "Ueda", "Varga",
    "Whitlock", "Yilmaz", "Zorn",
)  # fmt: skip

_SUBJECTS: Final = (
    "The harbour", "A narrow street", "The old market", "Every second tram", "The morning train", "A row of poplars",
    "The library", "The ferry", "A painted sign", "The tall clock", "A small orchestra", "The river path",
)  # fmt: skip
_VERBS: Final = (
    "was quiet", "looked much the same", "smelled of rain", "had been repaired", "drew a few visitors",
    "stood in shade", "closed early", "seemed larger than before", "was mentioned in letters", "kept its own hours",
)  # fmt: skip
_ENDS: Final = (
    "that autumn", "for most of the year", "after the fair", "as far as anyone recalled", "before the new bridge",
    "when the season turned", "and nobody minded", "which surprised the guests", "on ordinary days",
    "as the guide had promised",
)  # fmt: skip

SENTENCES: Final = tuple(f"{a} {b} {c}." for a in _SUBJECTS for b in _VERBS for c in _ENDS)

_PARAGRAPH: Final = 6  # sentences


def haystack(chance: random.Random, size: int, needles: Sequence[str]) -> str:
    """Paragraphs of prose of this many bytes, with sentences inserted at random positions, in their order.

    Args:
        chance: random source of the prose and the positions.
        size: bytes; the text has at most one paragraph more.
        needles: the sentences.
    """
    wanted = size - sum(len(needle) + 1 for needle in needles)
    average = sum(map(len, SENTENCES)) / len(SENTENCES) + 1
    drawn = chance.choices(SENTENCES, k=max(_PARAGRAPH, round(wanted / average)))
    places = sorted(chance.sample(range(len(drawn) + len(needles)), len(needles)))
    for place, needle in zip(places, needles, strict=True):
        drawn.insert(place, needle)
    return "\n".join(" ".join(drawn[start : start + _PARAGRAPH]) for start in range(0, len(drawn), _PARAGRAPH))


def names(chance: random.Random, count: int) -> list[str]:
    """People's names, no two the same."""
    places = chance.sample(range(len(FIRST) * len(LAST)), count)
    return [f"{FIRST[place // len(LAST)]} {LAST[place % len(LAST)]}" for place in places]
