"""Questions of six kinds, by TREC's coarse labels. The words of a question do not tell its kind, only its meaning."""

from __future__ import annotations

import random
from functools import cache
from typing import Final

from rlm_adapters.evaluation.tasks.prose import CITIES, FIRST

LABELS: Final = ("abbreviation", "description", "entity", "human being", "location", "numeric value")

_TEMPLATES: Final = {
    "abbreviation": (
        "What do the letters on the {city} tram ticket stand for ?",
        "How is the {city} Port Authority written for short ?",
        "Give the full form of the initials on {name} 's badge .",
        "What is the short form of the {city} chamber of commerce ?",
        "Which words hide behind the acronym that {name} keeps using ?",
    ),
    "description": (
        "Why did {name} leave town before the harvest ?",
        "How does one get a library card in {city} ?",
        "What happened to the old theatre of {city} ?",
        "What does the word that {name} shouted mean ?",
        "In what way do the bells of {city} differ from others ?",
    ),
    "entity": (
        "What fish is sold most on the market of {city} ?",
        "Which instrument did {name} play in the band ?",
        "What colour are the trams of {city} ?",
        "Name the dish that {name} cooked for the fair .",
        "What language is on the oldest coin of {city} ?",
    ),
    "human being": (
        "Who repaired the clock of {city} ?",
        "Which mayor of {city} was elected twice ?",
        "Name the painter who taught {name} .",
        "Whose portrait hangs in the town hall of {city} ?",
        "What is the name of the sister that {name} wrote to ?",
    ),
    "location": (
        "Where did {name} spend the winter ?",
        "What river runs through {city} ?",
        "Which town lies between {city} and the coast ?",
        "Name the island that {name} sailed to .",
        "On which square does the fountain of {city} stand ?",
    ),
    "numeric value": (
        "When was the bridge of {city} opened ?",
        "How far is it from {city} to the sea ?",
        "What did {name} pay for the boat ?",
        "How many steps lead up to the tower of {city} ?",
        "At what temperature does {name} 's glaze melt ?",
    ),
}


@cache
def instances(label: str) -> tuple[str, ...]:
    """All questions of a kind."""
    return tuple(
        text
        for template in _TEMPLATES[label]
        for text in (
            (template.format(city=city) for city in CITIES)
            if "{city}" in template
            else (template.format(name=name) for name in FIRST)
        )
    )


@cache
def _kinds() -> dict[str, str]:
    return {text: label for label in LABELS for text in instances(label)}


def label_of(text: str) -> str | None:
    """The kind of a question, for a scripted model that knows it; None for an unknown question."""
    return _kinds().get(text.strip())


def draw(chance: random.Random, label: str) -> str:
    """A question of a kind."""
    return chance.choice(instances(label))
