"""Write an evaluation as one HTML file without scripts and external addresses. All text is escaped."""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

from rlm_adapters.evaluation.evaluation import Evaluation
from rlm_adapters.evaluation.figures import Figures
from rlm_adapters.evaluation.results import Result

_MOST_WRONG: Final = 300
_MOST_SHOWN: Final = 400  # characters of an answer

_COLOURS: Final = ("#2563eb", "#d97706", "#059669", "#db2777", "#7c3aed", "#475569", "#b91c1c", "#0e7490")
_WIDTH, _HEIGHT, _LEFT, _TOP = 640, 260, 48, 12

_STYLE: Final = """
body { font: 15px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 96rem; padding: 0 1rem; color: #1e293b; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2.2rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; padding: .3rem .7rem; border-bottom: 1px solid #e2e8f0; vertical-align: top; }
th { background: #f8fafc; white-space: nowrap; } td.n { text-align: right; white-space: nowrap; }
small, .quiet { color: #64748b; } td.wrong { overflow-wrap: anywhere; max-width: 24rem; }
.warn { background: #fef3c7; padding: .6rem 1rem; border-radius: .4rem; }
svg text { font: 12px system-ui, sans-serif; fill: #475569; }
"""

_KEY: Final = (
    "<p class='quiet'>Accuracy: share of tasks whose whole answer is right, with its 95 % interval (Wilson). Score: "
    "what partly right answers are worth. Tokens, cost and time are those of one task (medians); root and sub calls "
    "are means.</p>"
)
_POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"


def page(evaluation: Evaluation) -> str:
    """The page of an evaluation."""
    names = {one.key: one.name for one in evaluation.settings}
    asked = evaluation.asked
    parts = [
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>",
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">',
        "<meta name='viewport' content='width=device-width, initial-scale=1'>",
        f"<title>rlm eval: {_safe(asked.get('model'))}</title><style>{_STYLE}</style></head><body>",
        f"<h1>rlm eval: {_safe(asked.get('model'))}</h1>",
        _head(evaluation),
        _warnings(evaluation),
        "<h2>Settings</h2>",
        _settings(evaluation.figures(), names),
        _KEY,
        "<h2>Accuracy by family</h2>",
        _accuracy("family", evaluation.families, evaluation.figures(family=True), names),
        "<h2>Accuracy by size of the context</h2>",
        _chart(evaluation, names),
        _accuracy("size", [str(size) for size in evaluation.sizes], evaluation.figures(size=True), names),
        "<h2>Wrong answers</h2>",
        _wrong([one for one in evaluation.results if not one.correct], names),
        "</body></html>\n",
    ]
    return "\n".join(parts)


def _safe(value: Any) -> str:
    """Text as HTML. Text of a model may have halves of surrogate pairs."""
    return html.escape(str(value).encode("utf-8", "replace").decode())


def _head(evaluation: Evaluation) -> str:
    asked = evaluation.asked
    facts = [
        ("root LM", asked.get("model")),
        ("sub-LM", asked.get("sub_model")),
        ("tasks", f"{evaluation.total // max(1, len(evaluation.settings)):,} of {len(evaluation.families)} families"),
        ("seed", f"{asked.get('seed')} ({str(asked.get('split')).replace('_', '-')})"),
        ("results", f"{len(evaluation.results):,} of {evaluation.total:,}"),
        ("spent", f"${evaluation.spent:.4f} (as far as prices are known)"),
        ("rlm-adapters", asked.get("version")),
    ]
    return "<p>" + " &middot; ".join(f"{_safe(name)} <b>{_safe(value)}</b>" for name, value in facts) + "</p>"


def _warnings(evaluation: Evaluation) -> str:
    told = [evaluation.stopped] if evaluation.stopped else []
    if evaluation.voids:
        told.append(f"{evaluation.voids} tasks have no answer although the model did not fail: start again to ask them")
    if not evaluation.complete:
        told.append("The evaluation is not complete: with few tasks the intervals are wide.")
    return "".join(f"<p class='warn'>{_safe(one)}</p>" for one in told)


def _settings(figures: Iterable[Figures], names: dict[str, str]) -> str:
    heads = (
        "setting", "tasks", "accuracy", "95 %", "score", "input tokens", "output tokens", "root calls", "sub calls",
        "failed calls", "cost, median", "cost, p95", "cost in all", "seconds, median", "seconds, p95", "ended by",
    )  # fmt: skip
    rows = []
    for one in figures:
        reasons = ", ".join(f"{name} {count}" for name, count in one.finish_reasons.items())
        cells = [
            f"{one.tasks:,}", percent(one.accuracy), interval(one), percent(one.score), f"{one.input_tokens:,.0f}",
            f"{one.output_tokens:,.0f}", f"{one.root_calls:.1f}", f"{one.sub_calls:.1f}", f"{one.failed_calls:,}",
            dollars(one.cost_median), dollars(one.cost_p95), dollars(one.cost), f"{one.seconds_median:.1f}",
            f"{one.seconds_p95:.1f}",
        ]  # fmt: skip
        numbers = "".join(f"<td class='n'>{_safe(cell)}</td>" for cell in cells)
        rows.append(f"<tr><th>{_safe(names[one.setting])}</th>{numbers}<td>{_safe(reasons)}</td></tr>")
    return _table(heads, rows)


def _accuracy(what: str, values: Sequence[str], figures: Sequence[Figures], names: dict[str, str]) -> str:
    found = {(one.setting, str(getattr(one, what))): one for one in figures}
    rows = []
    for value in values:
        cells = "".join(
            f"<td class='n'>{percent(one.accuracy)} <small>{_safe(interval(one))}, {one.tasks}</small></td>"
            for one in (found[key, value] for key in names)
        )
        shown = size_text(int(value)) if what == "size" else value
        rows.append(f"<tr><th>{_safe(shown)}</th>{cells}</tr>")
    return _table([what, *names.values()], rows)


def _chart(evaluation: Evaluation, names: dict[str, str]) -> str:
    """A chart of accuracy by size, with a line and intervals for each setting."""
    sizes = sorted(evaluation.sizes)
    if len(sizes) < 2:
        return ""
    found = {(one.setting, one.size): one for one in evaluation.figures(size=True)}
    step = (_WIDTH - _LEFT - 20) / (len(sizes) - 1)
    parts = []
    for share in (0, 0.25, 0.5, 0.75, 1):
        y = _y(share)
        parts.append(
            f"<line x1='{_LEFT}' x2='{_WIDTH}' y1='{y:.1f}' y2='{y:.1f}' stroke='#e2e8f0'/>"
            f"<text x='{_LEFT - 8}' y='{y + 4:.1f}' text-anchor='end'>{share:.0%}</text>"
        )
    for place, size in enumerate(sizes):
        parts.append(
            f"<text x='{_LEFT + place * step:.1f}' y='{_HEIGHT - 4}' text-anchor='middle'>{size_text(size)}</text>"
        )
    for number, (key, name) in enumerate(names.items()):
        colour, shift = _COLOURS[number % len(_COLOURS)], 5 * number
        points = []
        for place, size in enumerate(sizes):
            one = found[key, size]
            if one.accuracy is None:
                continue
            x, y = _LEFT + place * step + shift, _y(one.accuracy)
            points.append(f"{x:.1f},{y:.1f}")
            parts.append(
                f"<line x1='{x:.1f}' x2='{x:.1f}' y1='{_y(one.low):.1f}' y2='{_y(one.high):.1f}' stroke='{colour}' "
                f"stroke-opacity='.4'/><circle cx='{x:.1f}' cy='{y:.1f}' r='3' fill='{colour}'/>"
            )
        parts.append(f"<polyline points='{' '.join(points)}' fill='none' stroke='{colour}' stroke-width='1.5'/>")
        y = _TOP + 6 + 18 * number
        parts.append(
            f"<rect x='{_WIDTH + 30}' y='{y - 8}' width='10' height='10' fill='{colour}'/>"
            f"<text x='{_WIDTH + 46}' y='{y + 1}'>{_safe(name)}</text>"
        )
    height = max(_HEIGHT, _TOP + 18 * len(names) + 10)
    return (
        f"<svg viewBox='0 0 {_WIDTH + 240} {height}' width='{_WIDTH + 240}' role='img' "
        f"aria-label='Accuracy by size'>{''.join(parts)}</svg>"
    )


def _y(share: float) -> float:
    return _TOP + (1 - share) * (_HEIGHT - _TOP - 32)


def _wrong(results: Sequence[Result], names: dict[str, str]) -> str:
    if not results:
        return "<p>None.</p>"
    rows = []
    for one in results[:_MOST_WRONG]:
        cells = (one.why, _short(one.expected), _short(one.answer), one.finish_reason, one.error or "", one.trace or "")
        shown = "".join(f"<td class='wrong'>{_safe(cell)}</td>" for cell in cells)
        rows.append(f"<tr><th>{_safe(names.get(one.setting, one.setting))}</th><td>{_safe(one.task)}</td>{shown}</tr>")
    more = len(results) - len(rows)
    note = f"<p class='quiet'>{more:,} more are in the file of results.</p>" if more else ""
    heads = ("setting", "task", "what is wrong", "right answer", "answer", "ended by", "error", "trace")
    return _table(heads, rows) + note


def _table(heads: Iterable[str], rows: Iterable[str]) -> str:
    head = "".join(f"<th>{_safe(one)}</th>" for one in heads)
    return f"<div class='wide'><table><tr>{head}</tr>{''.join(rows)}</table></div>"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, default=str)
    return text if len(text) <= _MOST_SHOWN else f"{text[:_MOST_SHOWN]}... ({len(text):,} characters)"


def percent(share: float | None) -> str:
    """A share as text; a dash for None."""
    return "-" if share is None else f"{100 * share:.1f} %"


def interval(figures: Figures) -> str:
    """The interval of an accuracy as text."""
    return "-" if not figures.tasks else f"{100 * figures.low:.0f} to {100 * figures.high:.0f} %"


def dollars(cost: float | None) -> str:
    """A cost as text; ``?`` if a price is unknown."""
    return "?" if cost is None else f"${cost:.4f}"


def size_text(size: int) -> str:
    """A size as short text: 10 kB, 1.5 MB."""
    for unit, name in ((1_000_000, "MB"), (1_000, "kB")):
        if size >= unit:
            return f"{size / unit:g} {name}"
    return f"{size} B"
