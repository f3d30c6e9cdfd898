"""The page: docs/benchmarks.md, from results."""

from __future__ import annotations

import re
import statistics
from collections.abc import Mapping, Sequence

from benchmarks.measure import machine, ratio
from benchmarks.peers.driver import FLOOR, NAMES, OURS, load
from benchmarks.peers.figures import GROUPS, Found, Group, Measure, found
from benchmarks.peers.run import Line

_BETTER = 1.1
"""A peer counts as better from this ratio on. Smaller differences may be noise."""

_HEAD = """# Benchmarks

`make bench-peers` writes this page. It runs this package and similar packages, each in its own virtual environment,
against one scripted server. The server sends the same cells to all of them, in the form that each package reads. So
this page compares the engines, not the quality of answers. [Evaluation](evaluation.md) measures the quality.

`exec()` is not a package. It is the `openai` client, a loop of 20 lines and Python's `exec()`: the minimum that any
engine needs. Numbers in brackets with an x are ratios to it.
"""

_MEASURED = """{dates}, {machine}. {rounds}, alternating between all packages.
If a figure has several values, the lowest and the highest are in brackets. The load of the machine was {least:.1f} to
{most:.1f} (median {median:.1f}), and a fixed piece of work took {fastest:.0f} to {slowest:.0f} ms. So compare only
ratios, and only large ones.

Each package is the newest version on PyPI, with its default settings. If a package can limit the time or the memory of
a cell, the limits are 5 s and 1,000 MB for the harmful cells, and its defaults elsewhere. `predict-rlm` installs
packages from a CDN at the start of each run; this is switched off. A package that needs Deno gets one module of Deno's
library from a local file. Measurements that took too long were stopped; the tables say so.
"""

_WHERE = """All results: [results.jsonl](../benchmarks/peers/results.jsonl). Drivers and cells:
[benchmarks/peers](../benchmarks/peers/__init__.py). `make bench-peers` keeps the results that are there and
measures the others. `make bench-peers-quick` takes a minute. `make bench-floor` compares our
interfaces with `exec()` in warm processes in two minutes, as ratios of alternating rounds.
"""

_WRONG = """## When something goes wrong

*Goes on*: the model sees an error, and the run ends with its answer. A package that runs cells in its own process
cannot stop a cell, and ends with it.
"""

_ERROR = re.compile(r"\b(\w+(?:Error|Exception)): .*")
_WORDS = {"ok": "yes", "skipped": "no such call"}


def page(lines: Sequence[Line], pictures: Mapping[str, str]) -> str:
    """The whole page.

    Args:
        lines: results.
        pictures: file names of pictures by the title of their group.
    """
    return "\n".join(
        [
            _HEAD,
            _not_better(lines),
            _about(lines),
            *(_section(group, lines, pictures) for group in GROUPS),
            _faults(lines),
        ]
    )


def tables(lines: Sequence[Line]) -> str:
    """Only the tables, for a terminal."""
    return "\n".join([*(_section(group, lines, {}) for group in GROUPS), _faults(lines)])


def _peers(lines: Sequence[Line]) -> list[str]:
    return [name for name in NAMES if any(one.peer == name for one in lines)]


def _title(peer: str) -> str:
    return load(peer).DIALECT.title


def _not_better(lines: Sequence[Line]) -> str:
    """The figures in which a peer is better than the best of ours."""
    rows = [row for measure in _compared() if (row := _better(lines, measure))]
    said = (
        f"This package can be used in three ways: as a graph, a chat model or a DSPy module. In {len(rows)} of "
        f"{len(_compared())} figures, another package is better than the best of the three, by a tenth or more:"
    )
    head = "| measure | ours, best | better packages |\n| --- | --- | --- |"
    return "\n".join(["## Where another package is better\n", f"{said}\n", head, *rows, ""])


def _better(lines: Sequence[Line], measure: Measure) -> str | None:
    """The row of a measure with the peers that are better; None if no peer is, or if ours were not measured."""
    medians = {peer: one.median for peer in _peers(lines) if isinstance(one := found(lines, peer, measure), Found)}
    ours = [(medians[peer], peer) for peer in OURS if peer in medians]
    if not ours:
        return None
    best, door = min(ours)
    others = sorted((value, peer) for peer, value in medians.items() if peer not in (*OURS, FLOOR))
    better = [f"{_title(peer)} {measure.shown(value)}" for value, peer in others if best >= _BETTER * value]
    if not better:
        return None
    return f"| {_name(measure)} | {measure.shown(best)} ({_title(door)}) | {', '.join(better)} |"


def _compared() -> list[Measure]:
    return [measure for group in GROUPS for measure in group.measures if not measure.plain]


def _name(measure: Measure) -> str:
    """A title that is clear without its table."""
    if measure.title in {"memory", "its memory"}:
        what, _, size = measure.scenario.partition("-")
        return {"input": f"memory, {size} MB", "runs": f"memory, {size} runs"}.get(what, "memory, 1,000 sub-calls")
    return f"input of {measure.title}" if measure.scenario.startswith("input") else measure.title


def _about(lines: Sequence[Line]) -> str:
    loads, spins = [one.load for one in lines], [one.spin for one in lines]
    dates = sorted({one.date for one in lines})
    rows = [
        f"| {_title(peer)} | {load(peer).DIALECT.version_of} {_version(lines, peer)} | {load(peer).DIALECT.limits} |"
        for peer in _peers(lines)
    ]
    rounds = max(one.round for one in lines) + 1
    said = _MEASURED.format(
        dates=" to ".join(sorted({dates[0], dates[-1]})),
        machine=machine().rpartition(", load")[0],
        rounds="One round" if rounds == 1 else f"Medians of up to {rounds} rounds",
        least=min(loads),
        most=max(loads),
        median=statistics.median(loads),
        fastest=min(spins),
        slowest=max(spins),
    )
    head = "| package | version | limits of a cell |\n| --- | --- | --- |"
    missing = [load(peer).DIALECT.title for peer in NAMES if peer not in _peers(lines)]
    not_there = f"Not measured yet: {', '.join(missing)}.\n" if missing else ""
    return "\n".join(["## How it was measured\n", said, head, *rows, "", not_there + _WHERE])


def _version(lines: Sequence[Line], peer: str) -> str:
    return next(one.version for one in lines if one.peer == peer)


def _section(group: Group, lines: Sequence[Line], pictures: Mapping[str, str]) -> str:
    heads = ["", *(measure.title for measure in group.measures)]
    rows = [
        [_title(peer), *(_cell(lines, peer, measure) for measure in group.measures)]
        for peer in _peers(lines)
        if any(found(lines, peer, measure) is not None for measure in group.measures)
    ]
    picture = pictures.get(group.title)
    return "\n".join(
        [
            f"## {group.title}\n",
            f"{group.text}\n",
            *([f"![{group.title}](pictures/{picture})\n"] if picture else []),
            _table(heads, rows),
        ]
    )


def _cell(lines: Sequence[Line], peer: str, measure: Measure) -> str:
    one = found(lines, peer, measure)
    if not isinstance(one, Found):
        return _told(one)
    told = measure.shown(one.median)
    if len(one.values) > 1:
        told += f" [{measure.shown(min(one.values))} to {measure.shown(max(one.values))}]"
    floor = found(lines, FLOOR, measure)
    if measure.unit == "s" and isinstance(floor, Found) and peer != FLOOR:
        told += f" ({ratio(one.median, floor.median)})"
    return told


def _told(outcome: str | None) -> str:
    """Why there is no figure. For an error: its name."""
    if outcome is None:
        return "-"
    return _ERROR.sub(r"\1", _WORDS.get(outcome, outcome)).replace("|", "/")


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _faults(lines: Sequence[Line]) -> str:
    """A table of what each package does when something goes wrong."""
    heads = [
        "", "cell that hangs", "cell that takes all memory", "cell that ends its process", "HTTP 500 at a sub-call",
        "30 sub-calls, budget 10", "two runs that print",
    ]  # fmt: skip
    rows = []
    for peer in _peers(lines):
        by = {one.scenario: one for one in lines if one.peer == peer}
        cells = [_fault(by.get(name)) for name in ("hang", "greedy", "killed")]
        rows.append(
            [_title(peer), *cells, _http(by.get("server-500")), _budget(by.get("budget")), _prints(by.get("runs-2"))]
        )
    return "\n".join([_WRONG, _table(heads, rows)])


def _fault(line: Line | None) -> str:
    if line is None or line.outcome != "ok":
        return (
            "the whole process dies"
            if line and line.outcome == "process died"
            else _told(line.outcome if line else None)
        )
    return f"goes on ({line.measures.get('wall', 0):.0f} s)"


def _http(line: Line | None) -> str:
    if line is None or line.outcome != "ok":
        return _told(line.outcome if line else None)
    return "asked again" if line.measures["subs"] > 1 else "not asked again; goes on"


def _budget(line: Line | None) -> str:
    if line is None:
        return "-"
    made = f"{line.measures['subs']:.0f} calls made"
    return made if line.outcome == "ok" else f"{made}; {_told(line.outcome)}"


def _prints(line: Line | None) -> str:
    if line is None or line.outcome != "ok":
        return _told(line.outcome if line else None)
    foreign, own = line.measures["foreign"], line.measures["own"]
    if not foreign and own == 2:
        return "apart"
    return f"{foreign:.0f} saw the other's output, {2 - own:.0f} not its own"
