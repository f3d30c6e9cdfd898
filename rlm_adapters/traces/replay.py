"""Convert the tree of a run back to events, for views that read events."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

from rlm_adapters.events import Event, EventType
from rlm_adapters.traces.content import Text
from rlm_adapters.traces.tree import Call, Cell, Figures, Iteration, Note, Run
from rlm_adapters.traces.values import plain


def events_of(run: Run) -> list[Event]:
    """The events of a run and its children, in order."""
    return list(_Replay(run, None, None).events())


class _Replay:
    """Makes the events of one run.

    Args:
        run: the run.
        parent_run: id of the run that started it.
        parent_call: id of the call that this run answers.
    """

    def __init__(self, run: Run, parent_run: str | None, parent_call: str | None) -> None:
        self._run = run
        self._parents = parent_run, parent_call
        self._now = run.start or 0.0

    def events(self) -> Iterator[Event]:
        """All its events."""
        run = self._run
        about: dict[str, Any] = {"id": run.run_id, "parent": self._parents[1]}
        told = {"query": run.question, "inputs": run.inputs, "limits": run.limits}
        told |= _known(model=run.model, sub_model=run.sub_model)
        yield self._event("run_started", run.start, told, **about)
        notes = deque(run.warnings)
        for iteration in run.iterations:
            while notes and (notes[0].time or 0.0) < (iteration.asked or 0.0):
                yield self._note(notes.popleft())
            if iteration.kind == "last" and run.limit:
                told = {"limit": run.limit, "message": run.error or ""}
                yield self._event("limit", iteration.asked, told, id="limit", parent=run.run_id)
            yield from self._iteration(iteration)
        yield from map(self._note, notes)
        if run.finish_reason is None:
            return
        if run.function:
            yield self._event("final", run.end, {"answer": run.answer, "function": run.function})
        counted = sum(iteration.kind != "last" for iteration in run.iterations)
        told = {"finish_reason": run.finish_reason, "answer": run.answer, "usage": run.usage, "iterations": counted}
        yield self._event("run_finished", run.end, {**told, "seconds": run.seconds, "error": run.error}, **about)

    def _note(self, note: Note) -> Event:
        return self._event("warning", note.time, {"message": note.message})

    def _iteration(self, iteration: Iteration) -> Iterator[Event]:
        number = iteration.number
        about: dict[str, Any] = {"id": iteration.id or None, "parent": self._run.run_id}
        start: EventType = "extract_started" if iteration.kind == "last" else "iteration_started"
        direct = {"direct": True} if iteration.kind == "direct" else {}
        told = _known(model=iteration.model, messages=iteration.messages or None)
        yield self._event(start, iteration.asked, {**told, **direct}, number, **about)
        yield from self._troubles(iteration, iteration.id, number)
        if iteration.seconds is not None:
            ends = None if iteration.asked is None else iteration.asked + iteration.seconds
            told = _with_length("reply", iteration.reply) | _known(finish_reason=iteration.finish_reason)
            yield self._event("root_replied", ends, {**_figures(iteration), **told}, number, **about)
        for cell in iteration.cells:
            yield from self._cell(cell, iteration)

    def _cell(self, cell: Cell, iteration: Iteration) -> Iterator[Event]:
        number, about = iteration.number, {"id": cell.id or None, "parent": iteration.id or None}
        yield self._event("code", cell.start, {"code": cell.code, **_known(reasoning=cell.reasoning)}, number, **about)
        functions: dict[str, list[Call]] = {}
        for call in cell.calls:
            functions.setdefault(call.function, []).append(call)
        for function, calls in functions.items():
            told = {"function": function, "count": len(calls), "ahead": sum(call.ahead for call in calls)}
            yield self._event("calls_started", None, told, number, parent=cell.id or None)
        yield from self._in_order(cell, number)
        if not cell.ended:
            return
        ends = None if cell.start is None or cell.seconds is None else cell.start + cell.seconds
        told = {"stdout": cell.output or "", "stdout_chars": cell.output_chars, "error": cell.error}
        told |= {"seconds": cell.cpu_seconds, "wall": cell.seconds, "replaced": cell.replaced}
        if cell.early_seconds is not None:
            told["early"] = {"seconds": cell.early_seconds}
        yield self._event("cell_output", ends, told, number, **about)

    def _in_order(self, cell: Cell, number: int | None) -> Iterator[Event]:
        """The events of a cell's calls, sorted by time. The events of one call stay in order."""
        found: list[tuple[float, int, Event]] = []
        for call in cell.calls:
            latest = call.asked or 0.0
            for event in self._call(call, cell, number):
                latest = max(latest, event.time)
                found.append((latest, len(found), event))
        for _, _, event in sorted(found, key=lambda one: one[:2]):
            yield event

    def _call(self, call: Call, cell: Cell, number: int | None) -> Iterator[Event]:
        about = {"id": call.id or None, "parent": cell.id or None}
        what = {"function": call.function, "kind": call.kind}
        told = _with_length("prompt", call.prompt) | ({"ahead": True} if call.ahead else {})
        yield self._event("call_started", call.asked, {**what, **told}, number, **about)
        yield from self._troubles(call, call.id, number, call=call.id)
        if call.child is not None:
            yield self._event("child_started", call.asked, {"query": call.prompt}, number, **about)
            yield from _Replay(call.child, self._run.run_id, call.id).events()
        if call.seconds is None:
            return
        ends = None if call.asked is None else call.asked + call.seconds
        told = _with_length("answer", call.answer) | _known(dropped=call.dropped, cached=call.cached or None)
        yield self._event("call_finished", ends, {**what, **_figures(call), **told, "total": 1}, number, **about)

    def _troubles(self, part: Figures, known: str, number: int | None, **more: Any) -> Iterator[Event]:
        for attempt, message in enumerate(part.retries, 1):
            told = {"message": message, "retry": {"model": part.model, "kind": "", "attempt": attempt}}
            yield self._event("warning", None, told, number, id=f"{known}/retry-{attempt}", parent=known)
        for problem in part.repairs:
            reason, _, message = problem.partition(": ")
            told = {"reason": reason, "message": message, **more}
            yield self._event("repair", None, told, number, id=f"{known}/repair", parent=known)

    def _event(
        self,
        type: EventType,  # noqa: A002 - as in `Event`
        time: float | None,
        data: Mapping[str, Any],
        iteration: int | None = None,
        *,
        id: str | None = None,  # noqa: A002 - as in `Event`
        parent: str | None = None,
    ) -> Event:
        """An event with its time, or the time of the event before it. No event is later than the run's end.

        Start and duration come from different clocks, so their sum may be a little later than the end.
        """
        now = self._now if time is None else time
        self._now = now if self._run.end is None else min(now, self._run.end)
        return Event(
            type=type,
            run_id=self._run.run_id,
            parent_run_id=self._parents[0],
            depth=self._run.depth,
            iteration=iteration,
            id=id,
            parent=parent,
            time=self._now,
            data={key: plain(value) for key, value in data.items()},
        )


def _known(**values: Any) -> dict[str, Any]:
    return {key: value for key, value in values.items() if value not in (None, "")}


def _with_length(name: str, text: Text | None) -> dict[str, Any]:
    return {} if text is None else {name: text, f"{name}_chars": text.chars}


def _figures(part: Figures) -> dict[str, Any]:
    tokens = {"input": part.input_tokens, "output": part.output_tokens, "cached": part.cached_tokens}
    usage = {"input_tokens": part.input_tokens, "output_tokens": part.output_tokens, "cost": part.cost}
    told = _known(model=part.model, start=part.start, error=part.error)
    return {**told, "seconds": part.seconds, "attempts": part.attempts, "tokens": tokens, "cost": part.cost,
            "usage": usage}  # fmt: skip
