"""The one event schema: what a run tells while it runs.

The graph emits :class:`Event` records through a callable (``on_event``); the live terminal view, reports and
logs are views of them and nothing else, so whatever one view shows another can show too. An event is plain
data: it holds no live object, and ``Event.from_json(event.to_json())`` is the same event again.
"""

from __future__ import annotations

import json
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast, get_args

SCHEMA_VERSION: Final = 1
"""Written in every serialised event. Raised when a field changes its meaning or goes away; new keys of
``data`` and new optional fields do not raise it, and readers ignore what they do not know."""

EventType: TypeAlias = Literal[
    "run_started",
    "iteration_started",
    "code",
    "cell_output",
    "calls_started",
    "call_finished",
    "child_started",
    "warning",
    "repair",
    "final",
    "run_finished",
]
"""What happened, and the keys of ``Event.data`` that go with it (``?``: may be missing):

``run_started``
    ``query``; ``inputs``: list of {name, type, size}; ``model?``, ``sub_model?``: names; ``max_iterations?``.
``iteration_started``
    The root LM is about to be asked. ``prompt_chars?``: size of the messages that it is sent; ``used?``: what the
    whole tree of calls has used so far, as in :data:`rlm_adapters.models.budget.Usage`.
``code``
    The cell that it wrote. ``code``; ``reasoning?``: the text around it.
``cell_output``
    The cell ended. ``stdout``: as the model will see it; ``stdout_chars?``: before truncation; ``error?``:
    the traceback, None when the cell did not fail; ``seconds?``; ``replaced?``: the worker died and was
    rebuilt.
``calls_started``
    A cell waits for sub-calls. ``count``; ``function``: ``llm_query``, ``rlm_query`` or a tool; ``ahead?``:
    how many of them were found by running ahead.
``call_finished``
    One of them was answered. ``function``; ``total``: how many were started with it; ``usage?``; ``error?``: why
    it failed.
``child_started``
    A call becomes a run of its own, whose events carry this run's id as ``parent_run_id``. ``query``.
``warning``
    Something that the user should know and that does not end the run. ``message``; ``retry?``: of a model call that
    is made again, as in :class:`rlm_adapters.models.calling.Retry`.
``repair``
    A reply could not be used and the model is asked again. ``reason``: short name
    (:data:`rlm_adapters.replies.Problem`, or ``invalid_answer``); ``message``: what the model is told; ``reply?``: the
    reply of which nothing was run, head and tail.
``final``
    An accepted answer. ``answer``; ``function?``: ``SUBMIT``, ``FINAL``, ``FINAL_VAR`` or ``text``.
``run_finished``
    Always the last event of its run. ``finish_reason``; ``usage``: of the run and its children, as in
    :data:`rlm_adapters.models.budget.Usage`; ``answer?``; ``iterations?``; ``seconds?``; ``error?``.
"""

EVENT_TYPES: Final[frozenset[str]] = frozenset(get_args(EventType))


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One thing that happened in a run."""

    type: EventType
    run_id: str
    """The run that it happened in; a child run has its own."""
    parent_run_id: str | None = None
    """The run whose cell started this one; None for the run that the user started."""
    depth: int = 0
    """Recursion depth of the run: 0 for the run that the user started."""
    iteration: int | None = None
    """Number of the iteration, from 1; None outside of one."""
    time: float = field(default_factory=clock.time)
    """Seconds since the epoch."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What goes with the type (see :data:`EventType`): plain JSON types."""

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a plain dict, with the version of the schema."""
        return {
            "version": SCHEMA_VERSION,
            "type": self.type,
            "run_id": self.run_id,
            "parent_run_id": self.parent_run_id,
            "depth": self.depth,
            "iteration": self.iteration,
            "time": self.time,
            "data": dict(self.data),
        }

    def to_json(self) -> str:
        """Return the event as one line of JSON.

        A value in ``data`` that JSON does not know is written as its ``repr``: a log must not end a run.
        """
        return json.dumps(self.to_dict(), ensure_ascii=False, default=repr)

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: when it is no event, or one of a schema that this version does not know.
        """
        record = json.loads(text)
        if not isinstance(record, dict) or "version" not in record:
            raise ValueError(f"not a serialised event: {text[:80]!r}")
        if record["version"] != SCHEMA_VERSION:
            raise ValueError(
                f"event schema {record['version']!r} is not known here, {SCHEMA_VERSION} is; "
                "upgrade rlm-adapters to read it"
            )
        if record.get("type") not in EVENT_TYPES:
            known = ", ".join(sorted(EVENT_TYPES))
            raise ValueError(f"unknown event type {record.get('type')!r}; known: {known}")
        try:
            return cls(
                type=cast("EventType", record["type"]),
                run_id=record["run_id"],
                parent_run_id=record.get("parent_run_id"),
                depth=record.get("depth", 0),
                iteration=record.get("iteration"),
                time=record["time"],
                data=record.get("data") or {},
            )
        except KeyError as missing:
            raise ValueError(f"a serialised event without {missing}: {text[:80]!r}") from None


EventHandler: TypeAlias = Callable[[Event], None]
"""A consumer of events. It is called from the thread or the task that runs the graph: it must be quick, and
what it raises does not end the run."""
