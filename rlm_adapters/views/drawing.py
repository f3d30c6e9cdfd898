"""Draw a small graph for the output of a notebook cell, without network and script, in light and dark colours."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

_WIDTH: Final = 150
_HEIGHT: Final = 28
_STEP: Final = 50
"""Vertical distance between two nodes, in points."""
_REACH: Final = 26
"""How far the shortest arrow next to the nodes extends, in points. Longer arrows extend further."""
_MORE: Final = 20
_EDGE: Final = 6  # margin around the drawing


@dataclass(frozen=True, slots=True)
class Arrow:
    """An edge of the graph."""

    source: str
    target: str
    dashed: bool = False
    """Whether it is one of several possible edges."""


def drawing_html(nodes: Sequence[str], arrows: Sequence[Arrow], *, source: str = "") -> str:
    """Draw a graph: its nodes in a column, arrows forward on the right, arrows back on the left.

    Args:
        nodes: names from top to bottom. A name between underscores is a start or an end.
        arrows: edges between the nodes. An arrow with an unknown node is left out.
        source: text to copy, such as Mermaid source; it can be unfolded.
    """
    places = {name: index for index, name in enumerate(nodes)}
    known = [arrow for arrow in arrows if arrow.source in places and arrow.target in places]
    span = max((abs(places[one.target] - places[one.source]) for one in known), default=0)
    side = _REACH + _MORE * span + _EDGE
    width, height = _WIDTH + 2 * side, _STEP * len(nodes) - (_STEP - _HEIGHT) + 2 * _EDGE
    parts = [_arrow(places[one.source], places[one.target], side, dashed=one.dashed) for one in known]
    parts += [_node(name, index, side) for name, index in places.items()]
    copied = f"<details><summary>Mermaid</summary><pre>{html.escape(source)}</pre></details>" if source else ""
    return (
        f'<div class="tex2jax_ignore mathjax_ignore"><svg xmlns="http://www.w3.org/2000/svg" width="{width}" '
        f'height="{height}" viewBox="0 0 {width} {height}" fill="none" stroke="currentColor" '
        f'font-family="system-ui, sans-serif" font-size="13" role="img" aria-label="graph">{"".join(parts)}</svg>'
        f"{copied}</div>"
    )


def _middle(index: int) -> float:
    return _EDGE + index * _STEP + _HEIGHT / 2


def _node(name: str, index: int, side: int) -> str:
    end = name.startswith("__") and name.endswith("__")
    middle = _middle(index)
    return (
        f'<rect x="{side}" y="{middle - _HEIGHT / 2}" width="{_WIDTH}" height="{_HEIGHT}" rx="{14 if end else 4}" '
        f'fill="currentColor" fill-opacity="{0.16 if end else 0.06}"/>'
        f'<text x="{side + _WIDTH / 2}" y="{middle + 4.5}" text-anchor="middle" fill="currentColor" stroke="none">'
        f"{html.escape(name.strip('_') if end else name)}</text>"
    )


def _arrow(source: int, target: int, side: int, *, dashed: bool) -> str:
    dash = ' stroke-dasharray="4 3"' if dashed else ""
    if target == source + 1:
        x, top, tip = side + _WIDTH / 2, _middle(source) + _HEIGHT / 2, _middle(target) - _HEIGHT / 2
        head = f"M{x - 4} {tip - 7} L{x} {tip} L{x + 4} {tip - 7}"
        return f'<path d="M{x} {top} L{x} {tip}" opacity=".65"{dash}/><path d="{head}" opacity=".65"/>'
    forward = target >= source
    sign = 1 if forward else -1
    x = side + _WIDTH if forward else side
    reach = x + sign * (_REACH + _MORE * abs(target - source)) * 1.2
    begin, tip = _middle(source) + (4 if forward else -4), _middle(target) - (4 if forward else -4)
    if source == target:
        begin, tip = _middle(source) - 7, _middle(source) + 7
    line = f"M{x} {begin} C{reach} {begin} {reach} {tip} {x} {tip}"
    head = f"M{x + sign * 7} {tip - 4} L{x} {tip} L{x + sign * 7} {tip + 4}"
    return f'<path d="{line}" opacity=".65"{dash}/><path d="{head}" opacity=".65"/>'
