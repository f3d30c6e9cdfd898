"""Build the tree of a run from its events."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeVar

from rlm_adapters.events import Event
from rlm_adapters.traces.content import Text
from rlm_adapters.traces.tree import Call, Cell, Figures, Iteration, Note, Run
from rlm_adapters.traces.values import (
    integer,
    mapping,
    mappings,
    number_or_none,
    plain,
    string,
    string_or_none,
    text,
    text_or_none,
)

R = TypeVar("R", bound=Run)

_GOES_ON: Final = frozenset({"iteration_started", "code", "call_started"})
_MOST_NESTED: Final = 50
"""Most levels of child runs. Usually there are 1 or 2, but a trace may come from an untrusted source."""
_UNANSWERED: Final = "not answered when the run ended"


@dataclass(slots=True)
class _Known(Generic[R]):
    """A run, and its parts by id."""

    run: R
    nested: int = 0
    """Number of runs around it."""
    iterations: dict[str, Iteration] = field(default_factory=dict)
    cells: dict[str, Cell] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)

    def iteration(self, event: Event) -> Iteration:
        """The call of the root LM to which an event belongs."""
        found = self.iterations.get(event.id or "") or self.iterations.get(event.parent or "")
        return found or (self.run.iterations[-1] if self.run.iterations else self.ask(event))

    def ask(self, event: Event, kind: str = "turn") -> Iteration:
        """A new call of the root LM."""
        made = Iteration(id=event.id or "", number=event.iteration, kind=kind, asked=event.time)
        self.run.iterations.append(made)
        self.iterations[made.id] = made
        return made

    def cell(self, event: Event, known: str | None) -> Cell:
        """The cell with an id; in traces of version 1 the last cell."""
        if known is not None and known in self.cells:
            return self.cells[known]
        cells = self.iteration(event).cells
        if known is None and cells:
            return cells[-1]
        return self.begin_cell(event, known)

    def begin_cell(self, event: Event, known: str | None) -> Cell:
        """A new cell."""
        made = Cell(id=known or "", start=event.time)
        self.iteration(event).cells.append(made)
        self.cells[made.id] = made
        return made


class Builder(Generic[R]):
    """Builds runs from events, one event after the other.

    Missing or wrong values in an event are left out: a trace may be incomplete, of version 1, or foreign.

    Args:
        make: makes a run.
    """

    def __init__(self, make: Callable[..., R]) -> None:
        self._make = make
        self._known: dict[str, _Known[R]] = {}
        self.outermost: list[R] = []
        """The runs that are not child runs of another one, in the order in which they began."""

    def add_all(self, events: Iterable[Event]) -> None:
        """Add events."""
        for event in events:
            self.add(event)

    def add(self, event: Event) -> None:
        """Add an event."""
        known = self._known.get(event.run_id) or self._begin(event)
        run = known.run
        run.end = event.time if run.end is None else max(run.end, event.time)
        if event.type in _GOES_ON:
            run.finish_reason = run.error = None  # it failed before, and continued from its checkpoint
        handle: Callable[[Event, _Known[R]], None] | None = getattr(self, f"_{event.type}", None)
        if handle is not None:
            handle(event, known)

    def _begin(self, event: Event) -> _Known[R]:
        run = self._make(run_id=event.run_id, depth=integer(event.depth), start=event.time)
        known = self._known[event.run_id] = _Known(run)
        parent = self._known.get(event.parent_run_id or "")
        if parent is None or parent is known or parent.nested == _MOST_NESTED:
            self.outermost.append(run)
            return known
        known.nested = parent.nested + 1
        call = parent.calls.get(event.parent or "") or _waiting_for_a_child(parent)
        if call is None or call.child is not None:
            call = Call(function="rlm_query", kind="child", asked=event.time)
            parent.cell(event, None).calls.append(call)
        call.child = run
        return known

    # One method for each type of event

    def _run_started(self, event: Event, known: _Known[R]) -> None:
        run, data = known.run, event.data
        run.question = text(data.get("query"))
        run.inputs = mappings(data.get("inputs"))
        run.model, run.sub_model = string(data.get("model")), string(data.get("sub_model"))
        run.limits = mapping(data.get("limits"))
        if not run.limits and isinstance(data.get("max_iterations"), int):
            run.limits = {"max_iterations": data["max_iterations"]}

    def _iteration_started(self, event: Event, known: _Known[R]) -> None:
        self._asked(event, known.ask(event, "direct" if event.data.get("direct") is True else "turn"))

    def _extract_started(self, event: Event, known: _Known[R]) -> None:
        self._asked(event, known.ask(event, "last"))

    def _asked(self, event: Event, made: Iteration) -> None:
        made.model = string(event.data.get("model"))
        messages = event.data.get("messages")
        if isinstance(messages, list):  # texts are not converted: the same ones come again in each iteration
            made.messages = [
                {"role": string(one.get("role")), "text": text(one.get("text"))}
                for one in messages
                if isinstance(one, dict)
            ]

    def _root_replied(self, event: Event, known: _Known[R]) -> None:
        made = known.iteration(event)
        _take_figures(made, event)
        made.finish_reason = string_or_none(event.data.get("finish_reason"))
        if made.error is None:
            made.reply = text(event.data.get("reply"), event.data.get("reply_chars"))

    def _code(self, event: Event, known: _Known[R]) -> None:
        cell = known.cells.get(event.id or "") if event.id else None
        if cell is None or cell.ended:
            cell = known.begin_cell(event, event.id)
        iteration = known.iteration(event)
        if event.id is None and iteration.seconds is None and iteration.asked is not None:
            _without_reply(iteration, event)
        cell.code = text(event.data.get("code"))
        cell.reasoning = text_or_none(event.data.get("reasoning"))

    def _cell_output(self, event: Event, known: _Known[R]) -> None:
        cell, data = known.cell(event, event.id), event.data
        cell.output = text(data.get("stdout"))
        cell.output_chars = integer(data.get("stdout_chars")) or cell.output.chars
        cell.error = text_or_none(data.get("error"))
        cell.cpu_seconds = number_or_none(data.get("seconds"))
        cell.replaced = data.get("replaced") is True
        cell.early_seconds = number_or_none(mapping(data.get("early")).get("seconds"))
        cell.ended = True
        wall = number_or_none(data.get("wall"))
        cell.seconds = wall if wall is not None else None if cell.start is None else event.time - cell.start

    def _call_started(self, event: Event, known: _Known[R]) -> None:
        call, data = self._call(event, known), event.data
        since = number_or_none(data.get("since"))  # the call was made before the cell began
        call.asked = event.time if since is None else since
        call.prompt = text(data.get("prompt"), data.get("prompt_chars"))
        call.ahead = data.get("ahead") is True
        # Made again: it was cancelled, or its process was killed.
        call.dropped = call.error = call.seconds = call.answer = None

    def _call_finished(self, event: Event, known: _Known[R]) -> None:
        call, data = self._call(event, known), event.data
        _take_figures(call, event)
        call.cached = data.get("cached") is True
        call.dropped = string_or_none(data.get("dropped"))
        if call.error is None and call.dropped is None:
            call.answer = text(data.get("answer"), data.get("answer_chars"))
        usage = mapping(data.get("usage"))
        if "tokens" not in data and usage:  # version 1
            call.input_tokens = integer(usage.get("input_tokens"))
            call.output_tokens = integer(usage.get("output_tokens"))
            call.cost = number_or_none(usage.get("cost"))
        if call.seconds is None:
            call.seconds = 0.0 if call.asked is None else event.time - call.asked

    def _call(self, event: Event, known: _Known[R]) -> Call:
        call = known.calls.get(event.id or "") if event.id else None
        begins_again = event.type == "call_started" and call is not None and call.status == "ok"
        if call is None or begins_again:
            call = Call(id=event.id or "")
            known.cell(event, event.parent).calls.append(call)
            if event.id:
                known.calls[event.id] = call
        call.function = string(event.data.get("function")) or call.function
        kind = string(event.data.get("kind"))
        call.kind = kind or ("child" if call.function == "rlm_query" else "llm")
        return call

    def _child_started(self, event: Event, known: _Known[R]) -> None:
        if event.id is None:  # version 1: the events of the child name only the run of its parent
            call = Call(function="rlm_query", kind="child", asked=event.time, prompt=text(event.data.get("query")))
            known.cell(event, None).calls.append(call)
            known.calls[f"child {len(known.calls)}"] = call

    def _warning(self, event: Event, known: _Known[R]) -> None:
        message = string(event.data.get("message"))
        part = self._part(event, known)
        if part is not None and "retry" in event.data:
            part.retries.append(message)
        else:
            known.run.warnings.append(Note(message=message, time=event.time))

    def _repair(self, event: Event, known: _Known[R]) -> None:
        part = self._part(event, known) or known.iteration(event)
        reason, message = string(event.data.get("reason")), string(event.data.get("message"))
        part.repairs.append(f"{reason}: {message}" if message else reason)

    def _part(self, event: Event, known: _Known[R]) -> Figures | None:
        parent = event.parent or ""
        return known.calls.get(parent) or known.iterations.get(parent)

    def _limit(self, event: Event, known: _Known[R]) -> None:
        known.run.limit = string_or_none(event.data.get("limit"))

    def _final(self, event: Event, known: _Known[R]) -> None:
        known.run.answer = plain(event.data.get("answer"))
        known.run.function = string_or_none(event.data.get("function"))

    def _run_finished(self, event: Event, known: _Known[R]) -> None:
        run, data = known.run, event.data
        run.finish_reason = string(data.get("finish_reason")) or "error"
        run.error = string_or_none(data.get("error"))
        run.usage = mapping(data.get("usage"))
        if "answer" in data:
            run.answer = plain(data["answer"])
        for iteration in run.iterations:
            if iteration.status == "running" and iteration.id:
                _give_up(iteration, iteration.asked, event)
            elif iteration.status == "running":
                _without_reply(iteration, event)
            for cell in iteration.cells:
                for call in cell.calls:
                    if call.status == "running":
                        _give_up(call, call.asked, event)
                if not cell.ended:
                    cell.ended = True
                    cell.error = Text.of("the run ended in the middle of this cell")
                    cell.seconds = None if cell.start is None else event.time - cell.start


def _without_reply(iteration: Iteration, event: Event) -> None:
    """Handle an event of version 1, which has no events for replies, only for what came after them."""
    iteration.reply = Text.of("")
    iteration.seconds = 0.0 if iteration.asked is None else event.time - iteration.asked


def _give_up(part: Figures, asked: float | None, event: Event) -> None:
    part.error = part.error or _UNANSWERED
    part.seconds = 0.0 if asked is None else max(0.0, event.time - asked)


def _waiting_for_a_child(parent: _Known[Any]) -> Call | None:
    """For version 1: the first call of the parent that started a child which is not known yet."""
    calls = (call for name, call in parent.calls.items() if name.startswith("child ") and call.child is None)
    return next(calls, None)


def _take_figures(part: Figures, event: Event) -> None:
    data = event.data
    tokens = mapping(data.get("tokens"))
    part.model = string(data.get("model")) or part.model
    part.start = number_or_none(data.get("start"))
    part.seconds = number_or_none(data.get("seconds"))
    part.attempts = integer(data.get("attempts"))
    part.input_tokens = integer(tokens.get("input"))
    part.output_tokens = integer(tokens.get("output"))
    part.cached_tokens = integer(tokens.get("cached"))
    part.cost = number_or_none(data.get("cost"))
    part.error = string_or_none(data.get("error"))
