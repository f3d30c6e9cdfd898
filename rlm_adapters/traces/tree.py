"""The parts of a trajectory: iterations, cells, calls, child runs, and what they add up to."""

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
"""``running``: not ended when the trace ended, as in a run that goes on, or whose process was killed."""


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
    """What a model call took."""

    model: str = field(metadata=_STRING, default="")
    start: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Seconds since the epoch when the first attempt left."""
    seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """From being asked for to its end; None: it has not ended."""
    attempts: int = field(metadata=_INTEGER, default=0)
    input_tokens: int = field(metadata=_INTEGER, default=0)
    output_tokens: int = field(metadata=_INTEGER, default=0)
    cached_tokens: int = field(metadata=_INTEGER, default=0)
    """Of the input tokens, those that the provider had in its cache."""
    cost: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """US dollars; None: unknown."""
    error: str | None = field(metadata=_STRING_OR_NONE, default=None)
    retries: list[str] = field(metadata=_STRINGS, default_factory=list)
    """What went wrong before each further attempt."""
    repairs: list[str] = field(metadata=_STRINGS, default_factory=list)
    """What was wrong with each reply that could not be used."""


@dataclass(slots=True, kw_only=True)
class Call(Figures):
    """A call that a cell made: to a sub-LM, to a child RLM, or to a tool."""

    id: str = field(metadata=_STRING, default="")
    function: str = field(metadata=_STRING, default="")
    kind: str = field(metadata=_STRING, default="llm")
    """``llm``, ``child`` or ``tool``."""
    prompt: Text = field(metadata=_TEXT, default_factory=lambda: Text.of(""))
    """Of a tool its arguments, as JSON."""
    answer: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """None: it failed, or is not there yet."""
    asked: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Seconds since the epoch when it was asked for; it may have waited for a place since."""
    ahead: bool = field(metadata=_FLAG, default=False)
    """Found by running ahead, before the cell came to it."""
    cached: bool = field(metadata=_FLAG, default=False)
    """The answer to the same prompt asked before."""
    dropped: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """Why it was not answered, though nobody waited for it yet."""
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
    """What the root LM wrote around it."""
    output: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """As the root LM saw it; None: it has not ended."""
    output_chars: int = field(metadata=_INTEGER, default=0)
    """Before it was shortened."""
    error: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """The traceback, if it failed."""
    start: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """From its start to its end, sub-calls included."""
    cpu_seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    replaced: bool = field(metadata=_FLAG, default=False)
    """Its worker died and was rebuilt."""
    early_seconds: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """How long its sub-calls were being answered while the root LM was still writing it; None: none was made then."""
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
    """``turn``; ``direct``: asked for the answer, without a REPL; ``last``: asked for the best answer so far."""
    messages: list[dict[str, Any]] = field(default_factory=list)
    """What it was sent: {role, text}."""
    reply: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    asked: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    finish_reason: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """The provider's."""
    observation: Text | None = field(metadata=_TEXT_OR_NONE, default=None)
    """What the root LM was told of its cells, where no cell's own output is known (a run read from a checkpoint)."""
    cells: list[Cell] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """How it ended."""
        return "failed" if self.error else "running" if self.reply is None else "ok"


@dataclass(slots=True, kw_only=True)
class Note:
    """Something that the user should know."""

    message: str = field(metadata=_STRING, default="")
    time: float | None = field(metadata=_NUMBER_OR_NONE, default=None)
    """Seconds since the epoch."""


@dataclass(slots=True)
class Totals:
    """Sums over the model calls of a run and its child runs."""

    root_calls: int = 0
    """Answered calls of root LMs, child runs' own included."""
    calls: int = 0
    """Calls that sub-LMs answered; one whose reply was repaired took two requests, and counts once."""
    tools: int = 0
    children: int = 0
    failed: int = 0
    """Calls of any kind that failed."""
    retries: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = 0.0
    """US dollars; None: that of some call is unknown."""

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
    """Of the last thing that is known of the run."""
    answer: Any = field(metadata=_PLAIN, default=None)
    function: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """How it was given: ``SUBMIT``, ``FINAL``, ``FINAL_VAR``, ``text`` or ``direct``."""
    finish_reason: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """None: the run had not ended when the trace ended."""
    limit: str | None = field(metadata=_STRING_OR_NONE, default=None)
    """Name of the limit that ended it."""
    error: str | None = field(metadata=_STRING_OR_NONE, default=None)
    usage: dict[str, Any] = field(metadata=_MAPPING, default_factory=dict)
    """As the run itself has counted it, children that failed and calls run ahead included."""
    warnings: list[Note] = field(default_factory=list)
    iterations: list[Iteration] = field(default_factory=list)

    @property
    def status(self) -> Status:
        """How it ended: ``failed`` without an answer."""
        if self.finish_reason is None:
            return "running"
        return "failed" if self.finish_reason == "error" or self.answer is None else "ok"

    @property
    def seconds(self) -> float | None:
        """From its start to its end, or to the last thing that is known of it."""
        return None if self.start is None or self.end is None else max(0.0, self.end - self.start)

    @property
    def cells(self) -> list[Cell]:
        """The cells of all iterations, in order."""
        return [cell for iteration in self.iterations for cell in iteration.cells]

    @property
    def calls(self) -> list[Call]:
        """The calls of all cells, in the order in which they were asked for; those of child runs not included."""
        return [call for cell in self.cells for call in cell.calls]

    def totals(self) -> Totals:
        """Sums over the run and its child runs."""
        total = Totals()
        for name, part in self._figures():
            _count(total, name, part)
        return total

    def by_model(self) -> dict[str, Totals]:
        """The same by the name of the model, tools left out."""
        found: dict[str, Totals] = {}
        for name, part in self._figures():
            if part.model:
                _count(found.setdefault(part.model, Totals()), name, part)
        return found

    def _figures(self) -> Iterator[tuple[str, Figures]]:
        """Everything that was asked, as root call, call, child or tool."""
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
