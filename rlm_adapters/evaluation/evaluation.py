"""The results of an evaluation so far: figures, JSON and a page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rlm_adapters.evaluation.figures import Figures, figures_of
from rlm_adapters.evaluation.results import Result
from rlm_adapters.evaluation.settings import Setting, described


@dataclass(slots=True, kw_only=True)
class Evaluation:
    """The results of an evaluation so far.

    Attributes:
        asked: models, limits, and the parameters of the tasks.
        settings: the compared settings.
        families: families of the tasks, and names of public data.
        sizes: sizes of their contexts, in bytes.
        total: expected number of results.
        results: results of this plan, without void ones.
        voids: number of tasks that have no answer although the model did not fail. The next start asks them again.
        asked_now: number of tasks that were asked in this start.
        spent: dollars of all starts, as far as prices are known.
        stopped: why tasks were left out; None if none were.
    """

    asked: Mapping[str, Any]
    settings: Sequence[Setting]
    families: Sequence[str]
    sizes: Sequence[int]
    total: int
    results: list[Result] = field(default_factory=list)
    voids: int = 0
    asked_now: int = 0
    spent: float = 0.0
    stopped: str | None = None

    @property
    def complete(self) -> bool:
        """Whether all results exist."""
        return len(self.results) == self.total

    def figures(self, *, family: bool = False, size: bool = False) -> list[Figures]:
        """Figures of each setting: over all tasks, or by family, by size, or by both."""
        return [
            figures_of(self.results, setting.key, one, bytes_)
            for setting in self.settings
            for one in (self.families if family else (None,))
            for bytes_ in (self.sizes if size else (None,))
        ]

    def to_dict(self) -> dict[str, Any]:
        """The figures as plain JSON. The results are in their file."""
        ways = {"all": {}, "by_family": {"family": True}, "by_size": {"size": True}}
        ways["by_family_and_size"] = {"family": True, "size": True}
        return {
            "form": 1,
            "asked": dict(self.asked),
            "settings": [described(one) for one in self.settings],
            "families": list(self.families),
            "sizes": list(self.sizes),
            "done": len(self.results),
            "total": self.total,
            "voids": self.voids,
            "spent": self.spent,
            "stopped": self.stopped,
            "figures": {name: [one.to_dict() for one in self.figures(**by)] for name, by in ways.items()},
        }

    def to_html(self) -> str:
        """The evaluation as one HTML page without scripts and external addresses. All text is escaped."""
        from rlm_adapters.evaluation.page import page  # noqa: PLC0415 - it needs this class

        return page(self)
