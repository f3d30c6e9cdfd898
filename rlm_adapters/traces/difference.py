"""`Difference`: compare two runs: where they differ, and the time, tokens and cost of each."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import zip_longest
from typing import Any, Final

from rlm_adapters.traces.compare import Parting, partings, partings_of_iterations
from rlm_adapters.traces.tree import Iteration, Run, Totals
from rlm_adapters.views.comparison import Comparison, print_comparison
from rlm_adapters.views.comparison import Difference as Shown

_FORM: Final = 1
"""Version of the dicts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """One number of each of the two runs."""

    name: str
    a: float | None
    """None: unknown."""
    b: float | None

    @property
    def change(self) -> float | None:
        """B minus A."""
        return None if self.a is None or self.b is None else self.b - self.a


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A model or a limit that is different in the two runs."""

    name: str
    a: Any
    b: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """The iterations of the same number in two runs."""

    number: int | None
    state: str
    """``same``; ``only A``, ``only B``; or the first difference, as in `rlm_adapters.traces.compare.What`."""
    calls: Figure
    tokens: Figure
    """Tokens of the root LM's call."""
    seconds: Figure
    """Seconds of the root LM's call and of the cells."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The differences of two runs, from `rlm_adapters.Trajectory.diff`."""

    parting: Parting | None
    """The first place where the runs differ; None: prompts, code, outputs and answers are the same."""
    settings: list[Setting]
    figures: list[Figure]
    """Counts, tokens, dollars (``cost``) and ``seconds``, with child runs."""
    iterations: list[Pair]
    a: str
    """Id of the first run."""
    b: str

    @property
    def same(self) -> bool:
        """Whether the runs are the same: no ``parting``, same models and limits. Time and cost do not matter."""
        return self.parting is None and not self.settings

    def to_dict(self) -> dict[str, Any]:
        """The difference as a dict of plain JSON."""
        found = self.parting
        return {
            "form": _FORM,
            "same": self.same,
            "a": self.a,
            "b": self.b,
            "parting": None if found is None else {**asdict(found), "where": list(found.where)},
            "settings": [asdict(one) for one in self.settings],
            "figures": {one.name: {"a": one.a, "b": one.b, "change": one.change} for one in self.figures},
            "iterations": [
                {
                    "number": one.number,
                    "state": one.state,
                    **{each.name: {"a": each.a, "b": each.b} for each in (one.calls, one.tokens, one.seconds)},
                }
                for one in self.iterations
            ],
        }

    def show(self) -> None:
        """Print it on standard output, as ``rlm diff`` does."""
        print_comparison(self.comparison())

    def comparison(self, a: str = "", b: str = "") -> Comparison:
        """The data that the terminal shows.

        Args:
            a: name of the first run, such as its file.
            b: name of the second run.
        """
        found = self.parting
        shown = None
        if found is not None:
            shown = Shown(
                place=found.place,
                what=found.what,
                a=found.a,
                b=found.b,
                before=found.begin,
                a_after=found.a_chars - found.begin - len(found.a),
                b_after=found.b_chars - found.begin - len(found.b),
            )
        return Comparison(
            names=(f"{a} {self.a[:8]}".strip(), f"{b} {self.b[:8]}".strip()),
            difference=shown,
            settings=[(one.name, _said(one.a), _said(one.b)) for one in self.settings],
            figures=[(one.name, one.a, one.b) for one in self.figures],
            iterations=[
                (
                    _numbered(one),
                    one.state,
                    [(each.name, each.a, each.b) for each in (one.calls, one.tokens, one.seconds)],
                )
                for one in self.iterations
            ],
        )


def difference_of(a: Run, b: Run) -> Difference:
    """Compare two runs."""
    return Difference(
        parting=next(partings(a, b), None),
        settings=list(_settings(a, b)),
        figures=list(_figures(a, b)),
        iterations=[_pair(one, other) for one, other in zip_longest(a.iterations, b.iterations)],
        a=a.run_id,
        b=b.run_id,
    )


def _settings(a: Run, b: Run) -> Iterator[Setting]:
    ours, theirs = ({"model": one.model, "sub_model": one.sub_model, **one.limits} for one in (a, b))
    for name in {**ours, **theirs}:
        if ours.get(name) != theirs.get(name):
            yield Setting(name=name, a=ours.get(name), b=theirs.get(name))


def _figures(a: Run, b: Run) -> Iterator[Figure]:
    ours, theirs = a.totals(), b.totals()
    yield Figure(name="iterations", a=_turns(a), b=_turns(b))
    yield Figure(name="cells", a=len(a.cells), b=len(b.cells))
    names = {
        "sub-calls": "calls",
        "child runs": "children",
        "tools": "tools",
        "failed": "failed",
        "retries": "retries",
        "input tokens": "input_tokens",
        "cached tokens": "cached_tokens",
        "output tokens": "output_tokens",
    }
    for name, key in names.items():
        yield Figure(name=name, a=getattr(ours, key), b=getattr(theirs, key))
    yield Figure(name="cost", a=_cost(ours), b=_cost(theirs))
    yield Figure(name="seconds", a=a.seconds, b=b.seconds)


def _turns(run: Run) -> int:
    return sum(one.kind != "last" for one in run.iterations)


def _cost(total: Totals) -> float | None:
    return total.cost


def _pair(a: Iteration | None, b: Iteration | None) -> Pair:
    if a is None or b is None:
        state = "only B" if a is None else "only A"
    else:
        found = next(partings_of_iterations(a, b), None)
        state = "same" if found is None else found.what
    one = a or b
    assert one is not None
    return Pair(
        number=one.number,
        state=state,
        calls=Figure(name="calls", a=_calls(a), b=_calls(b)),
        tokens=Figure(name="tokens", a=_tokens(a), b=_tokens(b)),
        seconds=Figure(name="seconds", a=_seconds(a), b=_seconds(b)),
    )


def _calls(iteration: Iteration | None) -> int | None:
    return None if iteration is None else sum(len(cell.calls) for cell in iteration.cells)


def _tokens(iteration: Iteration | None) -> int | None:
    return None if iteration is None else iteration.input_tokens + iteration.output_tokens


def _seconds(iteration: Iteration | None) -> float | None:
    if iteration is None or iteration.seconds is None:
        return None
    return iteration.seconds + sum(cell.seconds or 0.0 for cell in iteration.cells)


def _numbered(pair: Pair) -> str:
    return "last" if pair.number is None else f"{pair.number}"


def _said(value: Any) -> str:
    return "not set" if value is None or value == "" else str(value)
