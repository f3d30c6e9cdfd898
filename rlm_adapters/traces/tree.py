"""The parts of a trajectory: iterations, cells, calls, child runs, and their totals."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

from rlm_adapters.traces.content import Text
from rlm_adapters.traces.values import (
    flag,
    integer,
    mapping,
    mappings,
    number_or_none,
    plain,
    string,
    string_or_none,
    strings,
    text,
    text_or_none,
)

Status: TypeAlias = Literal["ok", "failed", "running"]
"""``running``: it had not ended when the trace ended. The run is still running, or its process was killed."""


# How a field is read from a dict.
_FLAG: Final = {"read": flag}
_INTEGER: Final = {"read": integer}
_MAPPING: Final = {"read": mapping}
_MAPPINGS: Final = {"read": mappings}
_NUMBER_OR_NONE: Final = {"read": number_or_none}
_PLAIN: Final = {"read": plain}
_STRING: Final = {"read": string}
_STRINGS: Final = {"read": strings}
_STRING_OR_NONE: Final = {"read": string_or_none}
_TEXT: Final = {"read": text}
_TEXT_OR_NONE: Final = {"read": text_or_none}


@dataclass(slots=True, kw_only=True)
class Figures:
    """Time, tokens, cost and problems of a model call."""

    model: str = field(metadata=_STRING, default="")
    start: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """When the first attempt was sent, in seconds since the epoch."""
    seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Seconds from the request of the cell to the end; None: it has not ended."""
    attempts: int = field(metadata=_INTEGER, default=0)
    input_tokens: int = field(metadata=_INTEGER, default=0)
    output_tokens: int = field(metadata=_INTEGER, default=0)
    cached_tokens: int = field(metadata=_INTEGER, default=0)
    """Input tokens that came from the provider's cache."""
    cost: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """US dollars; None: unknown."""
    error: str | None = field(metadata=_STRING_OR_NONE, default=None)
    retries: list[str] = field(metadata=_STRINGS, default_factory=list)
    """The failure before each retry."""
    repairs: list[str] = field(metadata=_STRINGS, default_factory=list)
    """The problem of each reply that could not be used."""


@dataclass(slots=True, kw_only=True)
class Call(Figures):
    """A call of a cell: to a sub-LM, a child RLM or a tool."""

    id: str = field(metadata=_STRING, default="")
    function: str = field(metadata=_STRING, default="")
    kind: str = field(metadata=_STRING, default="llm")
    """``llm``, ``child`` or ``tool``."""
    prompt: Text = field(metadata=_TEXT, default_factory=lambda: Text.of(""))
    """The prompt; for a tool its arguments as JSON."""
    answer: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """None: the call failed, or has not ended."""
    asked: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """When the cell made the call, in seconds since the epoch. It may have waited before it was sent."""
    ahead: bool = field(metadata=_FLAG, default=False)
    """Whether run-ahead found it before the cell reached it."""
    cached: bool = field(metadata=_FLAG, default=False)
    """Whether the answer was that of an earlier call with the same prompt."""
    dropped: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """Why a call that was found by run-ahead was dropped without an answer."""
    child: Run | None = None
    """The run that answered it."""

    @property
    def status(self) -> Status:
        """How it ended."""
        return "failed" if self.error or self.dropped else "running" if self.answer is None else "ok"


@dataclass(slots=True, kw_only=True)
class Cell:
    """A cell that was run."""

    id: str = field(metadata=_STRING, default="")
    code: Text = field(metadata=_TEXT, default_factory=lambda: Text.of(""))
    reasoning: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """The text of the root LM around the cell."""
    output: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """The output, as the root LM saw it; None: the cell has not ended."""
    output_chars: int = field(metadata=_INTEGER, default=0)
    """Characters of the whole output, before it was cut."""
    error: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """The traceback, if it failed."""
    start: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """From start to end, with sub-calls."""
    cpu_seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    replaced: bool = field(metadata=_FLAG, default=False)
    """Whether its worker died and was replaced."""
    early_seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Seconds in which sub-calls ran while the root LM was still writing the cell; None: there were none."""
    ended: bool = field(metadata=_FLAG, default=False)
    calls: list[Call] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """How it ended."""
        return "failed" if self.error is not None else "ok" if self.ended else "running"


@dataclass(slots=True, kw_only=True)
class Iteration(Figures):
    """A call of the root LM, and the cells of its reply."""

    id: str = field(metadata=_STRING, default="")
    number: int | None = None
    """From 1; None: the call for a last answer, when a limit ended the run."""
    kind: str = field(metadata=_STRING, default="turn")
    """``turn``; ``direct``: a direct call, without a REPL; ``last``: the question for the best answer so far."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """The messages to the root LM: {role, text}."""
    reply: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    asked: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    finish_reason: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """The finish reason that the provider gave."""
    observation: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """The output of all cells, as the root LM saw it, for a checkpoint, which has no outputs of single cells."""
    cells: list[Cell] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """How it ended."""
        return "failed" if self.error else "running" if self.reply is None else "ok"


@dataclass(slots=True, kw_only=True)
class Note:
    """A warning or another note for the user."""

    message: str = field(metadata=_STRING, default="")
    time: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Seconds since the epoch."""


@dataclass(slots=True)
class Totals:
    """Sums over the model calls of a run and its child runs."""

    root_calls: int = 0
    """Answered calls of root LMs, also those of child runs."""
    calls: int = 0
    """Calls that sub-LMs answered. A call whose reply was repaired took two requests, but counts once."""
    tools: int = 0
    children: int = 0
    failed: int = 0
    """Calls of any kind that failed."""
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = 0.0
    """US dollars; None: the cost of at least one call is unknown."""

    def add(self, call: Figures) -> None:
        """Add the tokens and cost of a model call."""
        self.retries += len(call.retries)
        self.input_tokens += call.input_tokens
        self.output_tokens += call.output_tokens
        self.cached_tokens += call.cached_tokens
        if call.input_tokens or call.output_tokens:
            self.cost = None if self.cost is None or call.cost is None else self.cost + call.cost


@dataclass(slots=True, kw_only=True)
class Run:
    """A run: the fields of `rlm_adapters.Trajectory`."""

    run_id: str = field(metadata=_STRING, default="")
    depth: int = field(metadata=_INTEGER, default=0)
    """0 for the run that the user started."""
    question: Text = field(metadata=_TEXT, default_factory=lambda: Text.of(""))
    inputs: list[dict[str, Any]] = field(metadata=_MAPPINGS, default_factory=list)
    """{name, type, size} of each variable."""
    model: str = field(metadata=_STRING, default="")
    sub_model: str = field(metadata=_STRING, default="")
    limits: dict[str, Any] = field(metadata=_MAPPING, default_factory=dict)
    start: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Seconds since the epoch."""
    end: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Time of the last known event of the run."""
    answer: Any = field(metadata=_PLAIN, default=None)
    function: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """How the answer was given: ``SUBMIT``, ``FINAL``, ``FINAL_VAR``, ``text`` or ``direct``."""
    finish_reason: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """None: the run had not ended when the trace ended."""
    limit: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """Name of the limit that ended it."""
    error: str | None = field(metadata=_STRING_OR_NONE, default=None)
    usage: dict[str, Any] = field(metadata=_MAPPING, default_factory=dict)
    """The usage that the run counted, with child runs that failed and calls of run-ahead."""
    warnings: list[Note] = field(default_factory=list)
    iterations: list[Iteration] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """How it ended: ``failed`` if it has no answer."""
        if self.finish_reason is None:
            return "running"
        return "failed" if self.finish_reason == "error" or self.answer is None else "ok"

    @property
    def seconds(self) -> float | None:
        """Seconds from start to end, or to the last known event."""
        return None if self.start is None or self.end is None else max(0.0, self.end - self.start)

    @property
    def cells(self) -> list[Cell]:
        """The cells of all iterations, in order."""
        return [cell for iteration in self.iterations for cell in iteration.cells]

    @property
    def calls(self) -> list[Call]:
        """The calls of all cells, in the order in which they were made, without the calls of child runs."""
        return [call for cell in self.cells for call in cell.calls]

    def totals(self) -> Totals:
        """Sums over the run and its child runs."""
        total = Totals()
        for name, part in self._figures():
            _count(total, name, part)
        return total

    def by_model(self) -> dict[str, Totals]:
        """The same by model name, without tools."""
        found: dict[str, Totals] = {}
        for name, part in self._figures():
            if part.model:
                _count(found.setdefault(part.model, Totals()), name, part)
        return found

    def _figures(self) -> Iterator[tuple[str, Figures]]:
        """All calls, each with its kind: root call, call, child or tool."""
        for iteration in self.iterations:
            yield "root_calls", iteration
            for cell in iteration.cells:
                for call in cell.calls:
                    if call.child is None:
                        yield {"tool": "tools"}.get(call.kind, "calls"), call
                    else:
                        yield "children", Figures(error=call.error, seconds=call.seconds)
                        yield from call.child._figures()  # noqa: SLF001 - of the same class


def _count(total: Totals, name: str, part: Figures) -> None:
    if part.error or (isinstance(part, Call) and part.dropped):
        total.failed += 1
    elif part.seconds is not None:
        setattr(total, name, getattr(total, name) + 1)
    total.add(part)
