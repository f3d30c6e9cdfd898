"""The measures that are compared, and their medians over the rounds."""

from __future__ import annotations

import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from benchmarks.measure import seconds
from benchmarks.peers.run import Line


@dataclass(frozen=True, slots=True)
class Measure:
    """A figure of a scenario.

    Attributes:
        scenario: its name.
        name: key in the measures of a line.
        title: a heading.
        unit: of the value.
        plain: shown without a ratio, and not compared.
    """

    scenario: str
    name: str
    title: str
    unit: str = "s"
    plain: bool = False

    def shown(self, value: float) -> str:
        """A value with its unit."""
        if self.unit == "s":
            return seconds(value)
        if self.unit == "MB":
            return f"{value:,.0f} MB"
        if self.unit == "%":
            return f"{value:.0%}"
        return f"{value:,.0f}"


@dataclass(frozen=True, slots=True)
class Group:
    """Measures of one table."""

    title: str
    text: str
    measures: tuple[Measure, ...]


GROUPS = (
    Group(
        "Start and iterations",
        "A run of 20 trivial cells and an answer, twice in one process. The model answers at once. *Import*: "
        "imports and the creation of objects. *First request*: the time from the call to the first request to"
        " the model, in the first run (cold) and in the second run (warm). *Iteration*: the time from one "
        "request of the root LM to the next, with the time of the HTTP client and the server.",
        (
            Measure("start", "import", "import"),
            Measure("start", "first", "first request, cold"),
            Measure("start", "warm", "first request, warm"),
            Measure("start", "iteration", "iteration"),
            Measure("start", "wall", "whole second run"),
        ),
    ),
    Group(
        "Sub-calls",
        "Each sub-call takes 50 ms. *Loop*: a plain `for` loop of 100 sub-calls in one cell; one after the "
        "other they take 5 s. *Batch*: the package's own batched call.",
        (
            Measure("loop", "cell", "loop of 100"),
            Measure("batch", "cell", "batch of 100"),
            Measure("batch", "in_flight", "most in flight", "calls", plain=True),
            Measure("thousand", "cell", "batch of 1,000"),
            Measure("thousand", "peak", "its memory", "MB"),
        ),
    ),
    Group(
        "Large inputs",
        "A text of this size, one cell that searches it, and an answer, in a new process. *Memory*: the "
        "growth of the memory (PSS) of all its processes, without the text itself.",
        tuple(
            measure
            for size in ("1", "10", "100")
            for measure in (
                Measure(f"input-{size}", "wall", f"{size} MB"),
                Measure(f"input-{size}", "grown", "memory", "MB"),
            )
        ),
    ),
    Group(
        "Many runs at once",
        "Runs of 5 root calls that take 100 ms each, all started together in one process: at best 0.5 s. "
        "Async if the package supports it, else in threads. *Memory*: the highest PSS of all its processes.",
        (
            Measure("runs-50", "wall", "50 runs"),
            Measure("runs-50", "peak", "memory", "MB"),
            Measure("runs-500", "wall", "500 runs"),
            Measure("runs-500", "peak", "memory", "MB"),
        ),
    ),
    Group(
        "Prompts",
        "In tokens of four characters; tools and the form of the answer count. *First prompt*: the first "
        "prompt of the root LM for a short question. *20 outputs*: all prompts of a run of 20 cells that "
        "print 5,000 characters each. *Cached*: the share of these tokens that a provider's prompt cache "
        "would hit, which is the common start of consecutive requests. A package that cuts outputs sends "
        "fewer tokens, and its model sees less.",
        (
            Measure("start", "first_prompt", "first prompt", "tokens"),
            Measure("tokens", "prompts", "20 outputs", "tokens"),
            Measure("tokens", "cached", "cached", "%", plain=True),
        ),
    ),
)


@dataclass(frozen=True, slots=True)
class Found:
    """Values of a measure, over the rounds."""

    values: tuple[float, ...]

    @property
    def median(self) -> float:
        return statistics.median(self.values)


def found(lines: Iterable[Line], peer: str, measure: Measure) -> Found | str | None:
    """The values of a peer, or the reason why there are none, or None if it was not tried."""
    of = [one for one in lines if (one.peer, one.scenario) == (peer, measure.scenario)]
    values = tuple(one.measures[measure.name] for one in of if one.outcome == "ok" and measure.name in one.measures)
    if values:
        return Found(values)
    return of[0].outcome if of else None
