"""What a part of the run found, and whether that is as it must be."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_SHOWN = 20


@dataclass(frozen=True, slots=True)
class Part:
    """The result of one part.

    Attributes:
        summary: one line with the figures.
        failures: what is not as it must be, by name.
        notes: what is worth knowing but not wrong.
    """

    summary: str
    failures: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        return not self.failures

    def show(self) -> None:
        print(f"{'ok  ' if self.ok else 'FAIL'}  {self.summary}")
        for note in self.notes:
            print(f"      {note}")
        for name, why in list(self.failures.items())[:_SHOWN]:
            print(f"      not ok: {name}: {why[:300]}")
        if len(self.failures) > _SHOWN:
            print(f"      and {len(self.failures) - _SHOWN} more")
        print(end="", flush=True)
