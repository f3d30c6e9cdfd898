"""Make the outline of a trajectory that a notebook shows."""

from __future__ import annotations

from typing import Any, Final

from rlm_adapters.traces.tree import Call, Cell, Figures, Iteration, Run
from rlm_adapters.traces.values import string, text
from rlm_adapters.traces.words import (
    answer_of,
    first_line,
    in_dollars,
    in_seconds,
    part_of,
    parts_of,
    summary_of,
    troubles_of,
)
from rlm_adapters.views.outline import Fold, Outline
from rlm_adapters.views.page.page import Answer, Part, facts_of

_MOST_ITERATIONS: Final = 40
_MOST_CALLS: Final = 30
"""Most calls of a cell in the outline. Failed and running calls come first."""
_MOST_NESTED: Final = 3
"""Most levels of child runs in the outline."""
_HEAD: Final = 80  # characters of a title
_HALF: Final = 44  # of a prompt, and of its answer
_WHOLE_PAGE: Final = "trajectory.to_html() and `rlm report` show all"


def outline_of(run: Run) -> Outline:
    """The outline of a run, which may still be running."""
    folds, more = _Maker(run).folds(run, 0)
    answer = answer_of(run)
    if run.status == "running":
        answer = Answer(title="Not finished", text="", good=False)
    return Outline(
        question=str(run.question),
        answer=answer,
        facts=facts_of([pair for pair in summary_of(run) if pair[0] != "limits"]),
        folds=folds,
        more=more,
        foot=f"run {run.run_id}",
    )


class _Maker:
    """Makes the folds of a run and its children.

    Args:
        run: the outermost run.
    """

    def __init__(self, run: Run) -> None:
        self._began = run.start
        self._seconds = run.seconds or 0.0

    def folds(self, run: Run, nested: int) -> tuple[list[Fold], str]:
        """The folds of a run, and a note about what is left out."""
        left_out = max(0, len(run.iterations) - _MOST_ITERATIONS)
        found = [self._iteration(one, nested) for one in run.iterations[left_out:]]
        if found and run.status == "running":
            found[-1].open = True
        found += [Fold(kind="note", label="warning", title=_line(note.message)) for note in run.warnings[:_MOST_CALLS]]
        return found, f"{left_out:,} iterations before these: {_WHOLE_PAGE}" if left_out else ""

    def _bar(self, start: float | None, seconds: float | None) -> tuple[float, float] | None:
        if start is None or self._began is None or not self._seconds:
            return None
        begin = (start - self._began) / self._seconds
        return begin, 1.0 if seconds is None else begin + seconds / self._seconds

    def _iteration(self, iteration: Iteration, nested: int) -> Fold:
        label = {"last": "best answer so far", "direct": "direct answer"}.get(iteration.kind)
        messages = [(string(one.get("role")), text(one.get("text"))) for one in iteration.messages[-1:]]
        cells = [self._cell(cell, nested) for cell in iteration.cells]
        calls = sum(len(cell.calls) for cell in iteration.cells)
        seconds = (iteration.seconds or 0.0) + sum(cell.seconds or 0.0 for cell in iteration.cells)
        return Fold(
            kind="root",
            label=label or f"iteration {iteration.number}",
            title=_line(first_line(str(iteration.cells[0].code)) if iteration.cells else str(iteration.reply or "")),
            facts=_joined(
                f"{calls:,} calls" if calls else "",
                in_seconds(seconds) if seconds else "",
                _tokens(iteration),
            ),
            status="failed" if any(cell.status == "failed" for cell in iteration.cells) else iteration.status,
            bar=self._bar(iteration.asked, seconds if iteration.status != "running" else None),
            parts=[
                *(part_of(f"Sent last ({role})", said) for role, said in messages),
                *parts_of(Reply=iteration.reply if not cells else None, Observation=iteration.observation),
                *troubles_of(iteration),
            ],
            folds=cells,
            open=False,
        )

    def _cell(self, cell: Cell, nested: int) -> Fold:
        shown = _chosen(cell.calls)
        left_out = len(cell.calls) - len(shown)
        return Fold(
            kind="cell",
            label="cell",
            title=_line(first_line(str(cell.code))),
            facts=_joined("" if cell.seconds is None else in_seconds(cell.seconds)),
            status=cell.status,
            bar=self._bar(cell.start, cell.seconds),
            parts=[
                *parts_of(Reasoning=cell.reasoning),
                Part(name="Code", text=str(cell.code), code=True),
                *parts_of(Output=cell.output, Error=cell.error),
            ],
            folds=[self._call(call, nested) for call in shown],
            more=f"{left_out:,} more calls, none of which failed: {_WHOLE_PAGE}" if left_out else "",
            open=True,
        )

    def _call(self, call: Call, nested: int) -> Fold:
        child = call.child
        folds: list[Fold] = []
        more = ""
        if child is not None:
            if nested < _MOST_NESTED:
                folds, more = self.folds(child, nested + 1)
            else:
                more = f"a run of {len(child.iterations):,} iterations: {_WHOLE_PAGE}"
        said = _line(call.answer.head if call.answer is not None else call.error or call.dropped or "", _HALF)
        return Fold(
            kind="child" if child is not None else "tool" if call.kind == "tool" else "call",
            label=call.function or "call",
            title=_line(call.prompt.head, _HALF) + (f" \u2192 {said}" if said else ""),
            facts=_joined("" if call.seconds is None else in_seconds(call.seconds), _tokens(call)),
            status=call.status,
            bar=self._bar(call.asked, call.seconds),
            parts=[
                *parts_of(**{"Arguments" if call.kind == "tool" else "Prompt": call.prompt, "Answer": call.answer}),
                *troubles_of(call),
            ],
            folds=folds,
            more=more,
        )


def _chosen(calls: list[Call]) -> list[Call]:
    """The calls of a cell that are shown, in order."""
    if len(calls) <= _MOST_CALLS:
        return calls
    ranks = {"failed": 0, "running": 1, "ok": 2}
    best = sorted(range(len(calls)), key=lambda index: (ranks[calls[index].status], index))[:_MOST_CALLS]
    return [calls[index] for index in sorted(best)]


def _tokens(part: Figures) -> str:
    if not (part.input_tokens or part.output_tokens):
        return ""
    tokens = f"{part.input_tokens:,} + {part.output_tokens:,} tokens"
    return f"{tokens}, {in_dollars(part.cost)}" if part.cost else tokens


def _joined(*parts: Any) -> str:
    return ", ".join(part for part in parts if part)


def _line(said: str, most: int = _HEAD) -> str:
    shown = " ".join(said[: 4 * most].split())
    return shown if len(shown) <= most else f"{shown[:most]}..."
