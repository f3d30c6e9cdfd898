"""Make the entries of a page from a trajectory."""

from __future__ import annotations

from typing import Any, Final

from rlm_adapters.traces.tree import Call, Cell, Figures, Iteration, Run
from rlm_adapters.traces.values import string, text
from rlm_adapters.traces.words import (
    answer_of,
    first_line,
    in_seconds,
    inputs_of,
    models_of,
    parts_of,
    summary_of,
    troubles_of,
)
from rlm_adapters.views.page.page import Entry, Kind, Page, Part, facts_of

_WAITED: Final = 0.05
"""Seconds that a call waited before it was sent. A shorter wait is not shown."""


def page_of(run: Run) -> Page:
    """The page of a run."""
    return _Maker(run).page()


class _Maker:
    """Makes the entries of a run and its children, in order.

    Args:
        run: the outermost run.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began = run.start or 0.0
        self._entries: list[Entry] = []

    def page(self) -> Page:
        """The whole page."""
        run = self._run
        self._add_run(run, None)
        return Page(
            question=str(run.question),
            answer=answer_of(run),
            facts=facts_of(summary_of(run)),
            tables=[table for table in (models_of(run), inputs_of(run)) if table.rows],
            entries=self._entries,
            seconds=run.seconds or 0.0,
            foot=f"run {run.run_id}",
        )

    def _add(self, entry: Entry) -> int:
        self._entries.append(entry)
        return len(self._entries) - 1

    def _since(self, time: float | None) -> float:
        """Seconds since the start of the outermost run."""
        return 0.0 if time is None else max(0.0, time - self._began)

    def _span(self, start: float | None, seconds: float | None, *, ended: bool) -> dict[str, Any]:
        begins = self._since(start)
        return {"start": begins, "end": begins + (seconds or 0.0) if ended else None}

    def _add_run(self, run: Run, parent: int | None) -> None:
        sent: set[str] = set()
        for iteration in run.iterations:
            self._add(self._root(iteration, run, parent, sent))
            for cell in iteration.cells:
                self._add_cell(cell, run, parent)
        for note in run.warnings:
            at = self._since(note.time)
            self._add(Entry(kind="note", title=note.message, parent=parent, depth=run.depth, start=at, end=at))

    def _root(self, iteration: Iteration, run: Run, parent: int | None, sent: set[str]) -> Entry:
        name = {"last": "the best answer so far", "direct": "the answer, without a REPL"}.get(iteration.kind)
        title = name or f"iteration {iteration.number}"
        messages = [(string(one.get("role")), str(text(one.get("text")))) for one in iteration.messages]
        new = [(role, said) for role, said in messages if said not in sent]
        sent.update(said for _, said in new)
        parts = [Part(name=f"Sent ({role})", text=said) for role, said in new]
        parts += parts_of(Reply=iteration.reply, Observation=iteration.observation)
        known = len(messages) - len(new)
        more = [("messages", f"{len(messages)}, of which {known} are shown before" if known else str(len(messages)))]
        return Entry(
            kind="root",
            title=title,
            parent=parent,
            depth=run.depth,
            status=iteration.status,
            facts=more if messages else [],
            parts=[*parts, *troubles_of(iteration)],
            **_taken(iteration),
            **self._span(iteration.asked, iteration.seconds, ended=iteration.status != "running"),
        )

    def _add_cell(self, cell: Cell, run: Run, parent: int | None) -> None:
        place = self._add(
            Entry(
                kind="cell",
                title=first_line(str(cell.code)),
                parent=parent,
                depth=run.depth,
                status=cell.status,
                facts=facts_of([
                    ("CPU", None if cell.cpu_seconds is None else in_seconds(cell.cpu_seconds)),
                    ("calls", f"{len(cell.calls):,}" if cell.calls else None),
                    ("printed", f"{cell.output_chars:,} characters" if cell.output_chars else None),
                    ("worker", "was replaced" if cell.replaced else None),
                    ("while it was written", None if cell.early_seconds is None else in_seconds(cell.early_seconds)),
                ]),
                parts=[
                    *parts_of(Reasoning=cell.reasoning),
                    Part(name="Code", text=str(cell.code), code=True),
                    *parts_of(Output=cell.output, Error=cell.error),
                ],
                **self._span(cell.start, cell.seconds, ended=cell.status != "running"),
            )
        )  # fmt: skip
        for call in cell.calls:
            self._add_call(call, run, place)

    def _add_call(self, call: Call, run: Run, parent: int) -> None:
        kind: Kind = "child" if call.child is not None else "tool" if call.kind == "tool" else "call"
        said = call.prompt.head if call.kind != "tool" else f"{call.function} {call.prompt.head}"
        waited = 0.0 if call.start is None or call.asked is None else max(0.0, call.start - call.asked)
        seconds = None if call.seconds is None else call.seconds - waited
        child = call.child
        facts = [
            ("function", call.function or None),
            ("waited", in_seconds(waited) if waited > _WAITED else None),
            ("not answered", call.dropped),
            *([] if child is None else summary_of(child)),
        ]
        texts = {"Arguments" if kind == "tool" else "Prompt": call.prompt, "Answer": call.answer}
        place = self._add(
            Entry(
                kind=kind,
                title=said or call.function or "call",
                parent=parent,
                depth=run.depth,
                status=call.status,
                ahead=call.ahead,
                cached=call.cached,
                facts=facts_of(facts),
                parts=[*parts_of(**texts), *troubles_of(call)],
                **({} if child is not None else _taken(call)),
                **self._span(call.start if waited else call.asked, seconds, ended=call.status != "running"),
            )
        )
        if child is not None:
            self._add_run(child, place)


def _taken(part: Figures) -> dict[str, Any]:
    """Time, tokens and cost of a model call. A child run shows them at its calls."""
    return {
        "model": part.model or None,
        "attempt": max(1, part.attempts),
        "input_tokens": part.input_tokens,
        "cached_tokens": part.cached_tokens,
        "output_tokens": part.output_tokens,
        "cost": part.cost,
    }
