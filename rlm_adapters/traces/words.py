"""Describe a run in words: how it ended, and its time, tokens and cost."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Final

from rlm_adapters.traces.content import Text
from rlm_adapters.traces.tree import Figures, Run
from rlm_adapters.traces.values import string
from rlm_adapters.views.page.page import MAX_PART, Answer, Part, Table

_QUESTION: Final = 60  # characters of a question in a line
_SHOWN: Final = 300  # characters of a fact


def part_of(name: str, one: Text) -> Part:
    """A text with its name."""
    return Part(name=name, text=str(one), chars=one.chars)


def parts_of(**texts: Text | None) -> list[Part]:
    """The texts that exist, with their names."""
    return [part_of(name, one) for name, one in texts.items() if one is not None and one.chars]


def troubles_of(part: Figures) -> list[Part]:
    """What went wrong with a call."""
    told = {"Error": part.error or "", "Retries": "\n".join(part.retries), "Not used": "\n".join(part.repairs)}
    return [Part(name=name, text=text) for name, text in told.items() if text]


def answer_of(run: Run) -> Answer:
    """How the run ended, with its answer."""
    if run.status == "running":
        return Answer(title="Not finished", text="The run had not ended when the trace ended.", good=False)
    if run.answer is None:
        return Answer(title=f"No answer ({run.finish_reason})", text=run.error or "", good=False)
    said = run.answer if isinstance(run.answer, str) else json.dumps(run.answer, ensure_ascii=False, indent=2)
    good = run.finish_reason in ("submitted", "text", "direct")
    return Answer(title=f"Answer ({run.finish_reason})", text=said[:MAX_PART], good=good)


def summary_of(run: Run) -> Iterator[tuple[str, str | None]]:
    """The facts about a run for the head of a page, and for the details of a child run."""
    total = run.totals()
    yield "time", None if run.seconds is None else in_seconds(run.seconds)
    yield "iterations", f"{sum(one.kind != 'last' for one in run.iterations):,}"
    yield "sub-calls", f"{total.calls:,}" if total.calls else None
    yield "child runs", f"{total.children:,}" if total.children else None
    yield "tools", f"{total.tools:,}" if total.tools else None
    yield "failed", f"{total.failed:,}" if total.failed else None
    yield "retries", f"{total.retries:,}" if total.retries else None
    given = total.input_tokens or run.usage.get("input_tokens") or 0
    made = total.output_tokens or run.usage.get("output_tokens") or 0
    cached = f" ({total.cached_tokens:,} cached)" if total.cached_tokens else ""
    yield "tokens", f"{given:,}{cached} in, {made:,} out" if given or made else None
    yield "cost", in_dollars(total.cost) if given or made else None
    yield "ended by", run.finish_reason if run.limit is None else f"the limit {run.limit}"
    yield "error", (run.error or "")[:_SHOWN] or None
    yield "limits", ", ".join(f"{name}={value}" for name, value in run.limits.items())[:_SHOWN] or None


def models_of(run: Run) -> Table:
    """Calls, tokens, time and cost of each model."""
    heads = ["model", "calls", "failed", "retries", "input", "cached", "output", "cost"]
    return Table(
        heads=heads,
        rows=[
            [name, *(f"{number:,}" for number in (
                one.root_calls + one.calls, one.failed, one.retries, one.input_tokens, one.cached_tokens,
                one.output_tokens,
            )), in_dollars(one.cost)]
            for name, one in sorted(run.by_model().items())
        ],
    )  # fmt: skip


def inputs_of(run: Run) -> Table:
    """The variables that the run was given."""
    rows = [
        [
            string(one.get("name")),
            string(one.get("type")),
            f"{one['size']:,}" if isinstance(one.get("size"), int) else "",
        ]
        for one in run.inputs
    ]
    return Table(heads=["input", "type", "size"], rows=rows)


def one_line(run: Run) -> str:
    """A run in one line."""
    calls = sum(len(cell.calls) for iteration in run.iterations for cell in iteration.cells)
    told = [
        f"{run.run_id[:8]}:",
        f"{run.question.head[:_QUESTION]!r},",
        f"{len(run.iterations):,} iterations, {calls:,} calls,",
        run.finish_reason or "not finished",
    ]
    return " ".join(told)


def first_line(code: str) -> str:
    """The first line of a cell that is not a comment."""
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("#")), lines[0] if lines else "an empty cell")


def in_seconds(value: float) -> str:
    """A time."""
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def in_dollars(cost: float | None) -> str:
    """A cost; None: unknown."""
    return "unknown" if cost is None else f"${cost:.4f}"
