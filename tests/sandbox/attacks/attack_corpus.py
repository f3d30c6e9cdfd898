"""The attacks: samples given with the project, and our own, written by someone who did not write the guards.

``tests/corpus/attacks.json`` and ``tests/corpus/attacks_own.json`` hold objects of this form:

- ``id``, ``class`` (family/route), ``src`` (the cell; ``repeat`` builds one from ``[text, times]`` pairs instead);
- ``kind``: ``escape`` binds what a cell must not have to ``PWN``; ``tamper`` changes what the host or a later cell
  sees; ``dos`` must end by a limit with the session usable or replaced; ``host`` ends as an ordinary cell, whatever
  its objects do to those who convert them;
- ``probe`` and ``expect``: a cell run afterwards, and what it must print; ``files``: read-only input files; ``final``:
  the value of a submission, if there is one; ``no_final``: there must be none;
- ``real``: ``plain`` succeeds in plain Python (``plain-tamper``: the probe shows it), ``crash`` kills plain Python,
  ``argued`` needs the sandbox, see ``note``; ``py``: versions for which the former holds (``<3.12``).
"""

from __future__ import annotations

import functools
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

CORPUS = Path(__file__).parents[2] / "corpus"
NO_FINAL = object()


@dataclass(frozen=True, slots=True)
class Attack:
    """One attack."""

    id: str
    family: str
    kind: str
    source: str
    real: str = "argued"
    probe: str = ""
    expect: str = ""
    files: dict[str, str] = field(default_factory=dict)
    no_final: bool = False
    final: Any = NO_FINAL
    streams: bool = False
    applies: bool = True
    """False: ``real`` does not hold for this version of Python."""


@functools.cache
def own_attacks() -> tuple[Attack, ...]:
    """The attacks of our own."""
    return _load("attacks_own.json")


@functools.cache
def given_attacks() -> tuple[Attack, ...]:
    """The samples."""
    return _load("attacks.json")


def _load(name: str) -> tuple[Attack, ...]:
    return tuple(map(_attack, json.loads((CORPUS / name).read_text(encoding="utf-8"))))


def _attack(record: dict[str, Any]) -> Attack:
    repeat = record.get("repeat")
    return Attack(
        id=record["id"],
        family=record["class"],
        kind=record["kind"],
        source="".join(text * times for text, times in repeat) if repeat else record["src"],
        real=record.get("real", "argued"),
        probe=record.get("probe", ""),
        expect=record.get("expect", ""),
        files=record.get("files", {}),
        no_final=record.get("no_final", False),
        final=record.get("final", NO_FINAL) if record["class"].startswith("submit/swallow") else NO_FINAL,
        streams=record.get("streams", False),
        applies=_applies(record.get("py", "")),
    )


def _applies(versions: str) -> bool:
    if not versions:
        return True
    limit = tuple(int(part) for part in versions.removeprefix("<").split("."))
    return sys.version_info[: len(limit)] < limit
