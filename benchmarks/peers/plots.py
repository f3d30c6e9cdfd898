"""Pictures of the results; matplotlib is in the virtual environment of `make bench-peers` only."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.peers.driver import FLOOR, NAMES, OURS, load
from benchmarks.peers.figures import GROUPS, Found, Group, Measure, found
from benchmarks.peers.run import Line

_PICKED = {
    "Start and iterations": ("first request, cold", "first request, warm", "iteration"),
    "Sub-calls": ("loop of 100", "batch of 100", "batch of 1,000"),
    "Large inputs": ("1 MB", "10 MB", "100 MB"),
    "Many runs at once": ("50 runs", "500 runs"),
}
"""Titles of the measures that are drawn, by group."""
_OURS, _FLOOR, _OTHERS = "#0f766e", "#9ca3af", "#b45309"


def draw(lines: Sequence[Line], folder: Path) -> dict[str, str]:
    """Draw a picture for each group, as SVG; gives their names by the titles of the groups."""
    import matplotlib as mpl

    mpl.use("svg")
    mpl.rcParams.update(
        {
            "svg.hashsalt": "rlm",
            "svg.fonttype": "none",
            "font.size": 9,
            "axes.spines.top": False,
            "axes.spines.right": False,
        }
    )
    return {
        group.title: _picture(
            group, [one for one in group.measures if one.title in _PICKED[group.title]], lines, folder
        )
        for group in GROUPS
        if group.title in _PICKED
    }


def _picture(group: Group, measures: Sequence[Measure], lines: Sequence[Line], folder: Path) -> str:
    from matplotlib import pyplot as plt

    figure, places = plt.subplots(1, len(measures), figsize=(10, 3.6), sharey=True, layout="constrained")
    peers = [name for name in NAMES if any(one.peer == name for one in lines)][::-1]
    for place, measure in zip(places, measures, strict=True):
        _bars(place, measure, peers, lines)
    places[0].set_yticks(range(len(peers)), [load(peer).DIALECT.title for peer in peers])
    name = f"benchmarks-{group.title.lower().replace(' ', '-')}.svg"
    figure.savefig(folder / name, metadata={"Date": None})
    plt.close(figure)
    return name


def _bars(place: Any, measure: Measure, peers: Sequence[str], lines: Sequence[Line]) -> None:
    """One measure: a bar for each peer with its spread, on a logarithmic axis."""
    values = {peer: one for peer in peers if isinstance(one := found(lines, peer, measure), Found)}
    from matplotlib.ticker import FuncFormatter, NullFormatter

    place.set_xscale("log")
    place.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    place.xaxis.set_minor_formatter(NullFormatter())
    place.set_ylim(-0.6, len(peers) - 0.4)
    place.set_title(f"{measure.title}, s", loc="left", fontsize=10)
    least = min((one.median for one in values.values()), default=1.0) / 2
    for row, peer in enumerate(peers):
        one = values.get(peer)
        if one is None:
            place.text(least * 1.05, row, "no figure: see the table", va="center", fontsize=7, color="#6b7280")
            continue
        color = _OURS if peer in OURS else _FLOOR if peer == FLOOR else _OTHERS
        place.barh(row, one.median - least, left=least, color=color, height=0.7)
        place.plot([min(one.values), max(one.values)], [row, row], color="#111827", linewidth=1)
        place.text(max(one.values) * 1.08, row, measure.shown(one.median), va="center", fontsize=7)
    place.set_xlim(least, max((max(one.values) for one in values.values()), default=10.0) * 3)
