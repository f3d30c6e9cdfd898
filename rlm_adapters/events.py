"""The schema of the events that a run emits.

The graph passes :class:`Event` records to a callable (``on_event``). The terminal view, reports and logs use only these
events, so each of them can show the same data. An event is plain data without live objects, and
``Event.from_json(event.to_json())`` is the same event.
"""

from __future__ import annotations

import json
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast, get_args

SCHEMA_VERSION: Final = 2
"""Version in every serialised event. It increases when a field changes its meaning or is removed, but not for new keys
of ``data`` and new optional fields. Readers ignore unknown keys. Version 1 had no ids, no replies of the root LM and no
texts of sub-calls; it can still be read."""

READABLE_VERSIONS: Final = (1, 2)

_END_OF_TIME: Final = 1e12  # seconds

HEAD_CHARS: Final = 300
"""Length of a text's head, if an event has only the head."""

EventType: TypeAlias = Literal[
    "run_started",
    "iteration_started",
    "extract_started",
    "root_replied",
    "code",
    "cell_output",
    "calls_started",
    "call_started",
    "call_finished",
    "child_started",
    "warning",
    "repair",
    "limit",
    "final",
    "run_finished",
]
"""The types of events, and their keys in ``Event.data`` (``?``: may be missing).

Times are seconds, ``start`` is seconds since the epoch, ``tokens`` is {input, output, cached}, ``cost`` is in US
dollars, or None if the price is unknown. If there is a key ``NAME_chars``, then ``NAME`` is a text, and ``NAME_chars``
is its whole length. Listeners that need no texts, and LangGraph's ``custom`` stream, get the first `HEAD_CHARS` of it.

``run_started``
    ``query``; ``inputs``: list of {name, type, size}; ``model?``, ``sub_model?``: names; ``max_iterations?``;
    ``limits?``: set limits, by name. ``Event.id`` is the run's id, ``Event.parent`` the call that it answers.
``iteration_started``
    Before a call of the root LM. ``prompt_chars?``: approximate size of its messages; ``used?``: usage of the whole
    call tree so far, as in :data:`rlm_adapters.models.usage.Usage`; ``model?``; ``messages?``: list of {role, text},
    for listeners that need texts; ``direct?``: it is a direct call, without a REPL.
``extract_started``
    A limit ends the run. Before the call that asks the root LM for the best answer so far. ``model?``, ``messages?``.
``root_replied``
    After a call of the root LM, with its id. ``reply``, ``reply_chars``; ``model``; ``start``, ``seconds``;
    ``attempts``; ``tokens``; ``cost``; ``finish_reason?``: the provider's; ``error?``: why there is no reply.
``code``
    A cell that the root LM wrote. ``code``; ``reasoning?``: the text around it.
``cell_output``
    The end of a cell. ``stdout``: as the model will see it; ``stdout_chars?``: before it was cut; ``error?``: the
    traceback, None if the cell did not fail; ``seconds?``: of CPU; ``wall?``: since ``code``, with sub-calls;
    ``replaced?``: the worker died and was replaced; ``early?``: {calls, used, seconds} of the calls that were made
    while the root LM was still writing the cell: their number, the number that the cell asked for, and the time that
    these had run when the reply was complete.
``calls_started``
    A cell waits for sub-calls. ``count``; ``function``: ``llm_query``, ``rlm_query`` or a tool; ``ahead?``:
    how many of them run-ahead found.
``call_started``
    The start of one of these calls. ``function``; ``kind``: ``llm``, ``child`` or ``tool``; ``prompt``,
    ``prompt_chars``: for a tool its arguments; ``model?``; ``ahead?``: run-ahead found it; ``early?``: made while
    the root LM was still writing the cell, ``since``: when, in seconds since the epoch.
``call_finished``
    The end of one of these calls. ``function``; ``kind?``; ``total``: number of calls started together; ``usage?``;
    ``error?``: why it failed; ``cached?``: the answer is that of an earlier call with the same prompt; ``dropped?``:
    why a call that nobody waits for yet was not answered; ``answer?``, ``answer_chars?``; ``model?``; ``start?``:
    when the first attempt was sent; ``seconds?``; ``attempts?``; ``tokens?``, ``cost?``: for a child the sum of all
    its calls.
``child_started``
    A call starts a child run. Its events have this run's id as ``parent_run_id``. ``query``.
``warning``
    A message for the user that does not end the run. ``message``; ``retry?``: of a model call that is retried, as in
    :class:`rlm_adapters.models.calling.Retry`.
``repair``
    A reply could not be used and the model is asked again. ``reason``: short name
    (:data:`rlm_adapters.replies.Problem`, or ``invalid_answer``); ``message``: the message to the model; ``reply?``:
    head and tail of the reply; ``call?``: it was the reply of a sub-LM to a call with ``returns``.
``limit``
    A limit ends the run. ``limit``: its name; ``message``.
``final``
    An accepted answer. ``answer``; ``function?``: ``SUBMIT``, ``FINAL``, ``FINAL_VAR`` or ``text``.
``run_finished``
    Always the last event of its run. ``finish_reason``; ``usage``: of the run and its child runs, as in
    :data:`rlm_adapters.models.usage.Usage`; ``answer?``; ``iterations?``; ``seconds?``; ``error?``.

``Event.id`` and ``Event.parent`` make the tree: run > root LM call (``iteration_started``, ``extract_started``,
``root_replied``) > cell (``code``, ``cell_output``) > call (``call_started``, ``call_finished``) > child run. The
start and end events of one part have the same id.
"""

EVENT_TYPES: Final[frozenset[str]] = frozenset(get_args(EventType))

_WITH_TEXTS: Final = frozenset(
    {"iteration_started", "extract_started", "root_replied", "call_started", "call_finished"}
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """An event of a run."""

    type: EventType
    run_id: str
    """Id of the run. A child run has its own id."""
    parent_run_id: str | None = None
    """The run whose cell started this one; None for the run that the user started."""
    depth: int = 0
    """Recursion depth of the run: 0 for the run that the user started."""
    iteration: int | None = None
    """Number of the iteration, from 1; None outside iterations."""
    id: str | None = None
    """Id of the part of the run: unique within the run, the same at its start and its end. None: it has no id."""
    parent: str | None = None
    """Id of the parent part, in the same run. For a child run: id of a call of the run ``parent_run_id``."""
    time: float = field(default_factory=clock.time)
    """Seconds since the epoch."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """Data of this type of event (see :data:`EventType`), in plain JSON types."""

    def with_heads(self) -> Event:
        """The event with only the heads of its texts, and without messages."""
        if self.type not in _WITH_TEXTS:
            return self
        data = {
            name: value[:HEAD_CHARS] if isinstance(value, str) and f"{name}_chars" in self.data else value
            for name, value in self.data.items()
            if name != "messages"
        }
        return replace(self, data=data)

    def to_dict(self) -> dict[str, Any]:
        """Return the event as a plain dict, with the version of the schema."""
        return {
            "version": SCHEMA_VERSION,
            "type": self.type,
            "run_id": self.run_id,
            "parent_run_id": self.parent_run_id,
            "depth": self.depth,
            "iteration": self.iteration,
            "id": self.id,
            "parent": self.parent,
            "time": self.time,
            "data": dict(self.data),
        }

    def to_json(self) -> str:
        """Return the event as one line of JSON.

        A value in ``data`` that is not JSON is written as its ``repr``, because a log must not end a run.
        """
        return json.dumps(self.to_dict(), ensure_ascii=False, default=repr)

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Read the result of :meth:`to_json`.

        Raises:
            ValueError: it is not an event, or its schema version is unknown.
        """
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, record: Any) -> Event:
        """Read the result of :meth:`to_dict`.

        Raises:
            ValueError: as for :meth:`from_json`.
        """
        if not isinstance(record, dict) or "version" not in record:
            raise ValueError(f"not a serialised event: {str(record)[:80]!r}")
        if record["version"] not in READABLE_VERSIONS:
            known = " and ".join(map(str, READABLE_VERSIONS))
            raise ValueError(
                f"event schema {record['version']!r} is not known here, {known} are; upgrade rlm-adapters to read it"
            )
        if record.get("type") not in EVENT_TYPES:
            known = ", ".join(sorted(EVENT_TYPES))
            raise ValueError(f"unknown event type {record.get('type')!r}; known: {known}")
        try:
            if not (isinstance(record["run_id"], str) and _is_time(record["time"])):
                raise ValueError(f"a serialised event with a wrong run_id or time: {str(record)[:80]!r}")
            return cls(
                type=cast("EventType", record["type"]),
                run_id=record["run_id"],
                parent_run_id=record.get("parent_run_id"),
                depth=record.get("depth", 0),
                iteration=record.get("iteration"),
                id=record.get("id"),
                parent=record.get("parent"),
                time=record["time"],
                data=data if isinstance(data := record.get("data"), dict) else {},
            )
        except KeyError as missing:
            raise ValueError(f"a serialised event without {missing}: {str(record)[:80]!r}") from None


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < _END_OF_TIME


EventHandler: TypeAlias = Callable[[Event], None]
"""A function that gets events. It is called from the thread or the task that runs the graph, so it must be quick. Its
exceptions do not end the run. If it has a true attribute ``heads_only``, it gets only the heads of texts. If it writes
somewhere, it may have methods ``begin`` and ``settle``. They are called before and after a run, not on the event loop,
and may block. An exception of ``begin`` ends the run."""
