"""Show two runs side by side in the terminal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Final, TypeAlias

from rich.console import Console
from rich.table import Table
from rich.text import Text

from rlm_adapters.views.text import safe

Number: TypeAlias = tuple[str, float | None, float | None]
"""Name, value of A, value of B; None: unknown."""

_NARROW: Final = 60
"""A table is shorter on terminals with fewer columns."""
_MAX_ROWS: Final = 40
"""Most iterations that are shown."""
_TENTHS: Final = 10
"""From this number of seconds on, no hundredths are shown."""
_MOST_LINES: Final = 24
"""Most lines of each side of a difference."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """The first difference of two runs."""

    place: str
    what: str
    a: str
    b: str
    before: int = 0
    """Characters before both texts."""
    a_after: int = 0
    """Characters after the text of A."""
    b_after: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """The comparison of two runs."""

    names: tuple[str, str]
    difference: Difference | None
    """None: the runs are the same."""
    settings: Sequence[tuple[str, str, str]]
    """Name, value of A, value of B."""
    figures: Sequence[Number]
    iterations: Sequence[tuple[str, str, Sequence[Number]]]
    """Number of the iteration, the kind of difference, its figures."""


def print_comparison(shown: Comparison, console: Console | None = None) -> None:
    """Print a comparison.

    Args:
        shown: the comparison.
        console: where to print; None: standard output, without colours if it is not a terminal.
    """
    console = console or Console()
    narrow = console.width < _NARROW
    for letter, name, style in zip("AB", shown.names, ("red", "green"), strict=True):
        console.print(Text.assemble((f"{letter}  ", f"bold {style}"), safe(name)), soft_wrap=not console.is_terminal)
    for name, a, b in shown.settings:
        console.print(Text.assemble((f"{safe(name)}: ", "dim"), (safe(a), "red"), " | ", (safe(b), "green")))
    console.print()
    if shown.difference is None:
        console.print(Text("The same questions, prompts, code, outputs and answers.", style="bold green"))
    else:
        _print_difference(shown.difference, console)
    console.print()
    console.print(_figures(shown.figures, narrow=narrow))
    if shown.iterations:
        console.print()
        console.print(_iterations(shown.iterations, narrow=narrow))
        if len(shown.iterations) > _MAX_ROWS:
            console.print(Text(f"and {len(shown.iterations) - _MAX_ROWS:,} more iterations", style="dim"))


def _print_difference(found: Difference, console: Console) -> None:
    if found.what == "missing":
        only = "B" if not found.a else "A"
        title = f"They part in {found.place}: only {only} has it"
    else:
        title = f"They part in {found.place}: {found.what}"
    console.print(Text(safe(title), style="bold yellow"))
    if found.before:
        console.print(Text(f"  ... {found.before:,} characters that are the same ...", style="dim"))
    for mark, line in lines_of(found.a, found.b):
        style = {"-": "red", "+": "green"}.get(mark, "dim")
        console.print(Text(f"{mark} {safe(line)}", style=style), soft_wrap=not console.is_terminal)
    for letter, left in (("A", found.a_after), ("B", found.b_after)):
        if left > 0:
            console.print(Text(f"  ... {left:,} more characters of {letter} ...", style="dim"))


def lines_of(a: str, b: str) -> Iterator[tuple[str, str]]:
    """The lines of two texts, in the form of `diff`.

    Yields:
        A mark and the line. The mark is ``-`` if only A has it, ``+`` if only B has it, a blank if both have it.
    """
    ours, theirs = a.splitlines()[:_MOST_LINES], b.splitlines()[:_MOST_LINES]
    for kind, a_from, a_to, b_from, b_to in SequenceMatcher(None, ours, theirs, autojunk=False).get_opcodes():
        if kind == "equal":
            yield from ((" ", line) for line in ours[a_from:a_to])
        else:
            yield from (("-", line) for line in ours[a_from:a_to])
            yield from (("+", line) for line in theirs[b_from:b_to])


def _figures(figures: Sequence[Number], *, narrow: bool) -> Table:
    table = _table(narrow=narrow)
    table.add_column("")
    for name in ("A", "B", "B - A"):
        table.add_column(name, justify="right")
    for name, a, b in figures:
        if not a and not b:
            continue
        table.add_row(Text(name), _number(name, a), _number(name, b), Text(_change(name, a, b), style="yellow"))
    return table


def _iterations(rows: Sequence[tuple[str, str, Sequence[Number]]], *, narrow: bool) -> Table:
    rows = rows[:_MAX_ROWS]
    table = _table(narrow=narrow)
    table.add_column("" if narrow else "iteration", justify="right")
    table.add_column("")
    columns: list[list[str]] = []
    for index, (name, _, _) in enumerate(rows[0][2]):
        if narrow and name == "tokens":
            continue
        table.add_column(f"{name} A | B", justify="right", no_wrap=True)
        ours = [_number(name, figures[index][1]) for _, _, figures in rows]
        theirs = [_number(name, figures[index][2]) for _, _, figures in rows]
        width = max(map(len, theirs))
        columns.append([f"{a} | {b:>{width}}" for a, b in zip(ours, theirs, strict=True)])
    for index, (number, state, _) in enumerate(rows):
        told = state if state == "same" or state.startswith("only") else f"other {state}"
        style = "green" if state == "same" else "yellow"
        table.add_row(number, Text(safe(told), style=style), *(column[index] for column in columns))
    return table


def _table(*, narrow: bool) -> Table:
    return Table(box=None, padding=(0, 1 if narrow else 2, 0, 0), pad_edge=False, header_style="dim")


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "?" if name == "cost" else "-"
    if name == "cost":
        return f"${value:.4f}"
    if name == "seconds":
        return f"{value:.1f}" if value >= _TENTHS else f"{value:.2f}"
    return f"{value:,.0f}"


def _change(name: str, a: float | None, b: float | None) -> str:
    """B minus A; empty if it is zero or unknown."""
    if a is None or b is None or _number(name, a) == _number(name, b):
        return ""
    return f"{'+' if b > a else '-'}{_number(name, abs(b - a))}"
