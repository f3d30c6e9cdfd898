"""The one event schema: what a run tells while it runs.

The graph emits :class:`Event` records through a callable (``on_event``); the live terminal view, reports and
logs are views of them and nothing else, so whatever one view shows another can show too. An event is plain
data: it holds no live object, and ``Event.from_json(event.to_json())`` is the same event again.
"""

from __future__ import annotations

import json
import time as clock
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Literal, TypeAlias, cast, get_args

SCHEMA_VERSION: Final = 2
"""Written in every serialised event. Raised when a field changes its meaning or goes away; new keys of
``data`` and new optional fields do not raise it, and readers ignore what they do not know. Version 1 had no ids, no
root LM's replies and no texts of sub-calls; it is still read."""

READABLE_VERSIONS: Final = (1, 2)

_END_OF_TIME: Final = 1e12  # seconds

HEAD_CHARS: Final = 300
"""Of a text, where an event holds its head only."""

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
"""What happened, and the keys of ``Event.data`` that go with it (``?``: may be missing).

Times are seconds, ``start`` is seconds since the epoch, ``tokens`` is {input, output, cached}, ``cost`` is in US
dollars and None where the price is unknown. A key with a companion ``..._chars`` is a text: the companion is its whole
length. A listener that wants no texts, and LangGraph's ``custom`` stream, get the first `HEAD_CHARS` of it.

``run_started``
    ``query``; ``inputs``: list of {name, type, size}; ``model?``, ``sub_model?``: names; ``max_iterations?``;
    ``limits?``: those that are set, by name. ``Event.id`` is the run's id, ``Event.parent`` the call that it answers.
``iteration_started``
    The root LM is about to be asked. ``prompt_chars?``: about the size of the messages that it is sent; ``used?``: what
    the whole tree of calls has used so far, as in :data:`rlm_adapters.models.usage.Usage`; ``model?``; ``messages?``:
    list of {role, text}, for listeners that want texts; ``direct?``: it is asked for the answer, without a REPL.
``extract_started``
    A limit ends the run, and the root LM is about to be asked for the best answer so far. ``model?``, ``messages?``.
``root_replied``
    It has answered one of the two, whose id this is. ``reply``, ``reply_chars``; ``model``; ``start``, ``seconds``;
    ``attempts``; ``tokens``; ``cost``; ``finish_reason?``: the provider's; ``error?``: why there is no reply.
``code``
    The cell that it wrote. ``code``; ``reasoning?``: the text around it.
``cell_output``
    The cell ended. ``stdout``: as the model will see it; ``stdout_chars?``: before truncation; ``error?``:
    the traceback, None when the cell did not fail; ``seconds?``: of CPU; ``wall?``: since ``code``, with the sub-calls;
    ``replaced?``: the worker died and was rebuilt; ``early?``: {calls, used, seconds} of the calls that were made
    while the root LM was still writing the cell: those that the cell asked for, and how long they were being answered
    by then.
``calls_started``
    A cell waits for sub-calls. ``count``; ``function``: ``llm_query``, ``rlm_query`` or a tool; ``ahead?``:
    how many of them were found by running ahead.
``call_started``
    One of them is about to be answered. ``function``; ``kind``: ``llm``, ``child`` or ``tool``; ``prompt``,
    ``prompt_chars``: of a tool its arguments; ``model?``; ``ahead?``: found by running ahead; ``early?``: made while
    the root LM was still writing the cell, ``since``: when, in seconds since the epoch.
``call_finished``
    One of them was answered. ``function``; ``kind?``; ``total``: how many were started with it; ``usage?``; ``error?``:
    why it failed; ``cached?``: the answer to the same prompt asked before; ``dropped?``: why it was not answered,
    though nobody waits for it yet; ``answer?``, ``answer_chars?``; ``model?``; ``start?``: when the first attempt left;
    ``seconds?``; ``attempts?``; ``tokens?``, ``cost?``: of a child all of its calls.
``child_started``
    A call becomes a run of its own, whose events carry this run's id as ``parent_run_id``. ``query``.
``warning``
    Something that the user should know and that does not end the run. ``message``; ``retry?``: of a model call that
    is made again, as in :class:`rlm_adapters.models.calling.Retry`.
``repair``
    A reply could not be used and the model is asked again. ``reason``: short name
    (:data:`rlm_adapters.replies.Problem`, or ``invalid_answer``); ``message``: what the model is told; ``reply?``: the
    reply of which nothing was run, head and tail; ``call?``: the reply was that of a sub-LM to a call with ``returns``.
``limit``
    A limit ends the run. ``limit``: its name; ``message``.
``final``
    An accepted answer. ``answer``; ``function?``: ``SUBMIT``, ``FINAL``, ``FINAL_VAR`` or ``text``.
``run_finished``
    Always the last event of its run. ``finish_reason``; ``usage``: of the run and its children, as in
    :data:`rlm_adapters.models.usage.Usage`; ``answer?``; ``iterations?``; ``seconds?``; ``error?``.

``Event.id`` and ``Event.parent`` make the tree: run > root LM call (``iteration_started``, ``extract_started``,
``root_replied``) > cell (``code``, ``cell_output``) > call (``call_started``, ``call_finished``) > child run. Start and
end of a thing have the same id.
"""

EVENT_TYPES: Final[frozenset[str]] = frozenset(get_args(EventType))

_WITH_TEXTS: Final = frozenset(
    {"iteration_started", "extract_started", "root_replied", "call_started", "call_finished"}
)


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
    id: str | None = None
    """Of what the event is about: unique within its run, the same at its start and its end. None: it has none."""
    parent: str | None = None
    """Id of what it belongs to: in the same run, but for a child run's own events, which name a call of the run
    ``parent_run_id``."""
    time: float = field(default_factory=clock.time)
    """Seconds since the epoch."""
    data: Mapping[str, Any] = field(default_factory=dict)
    """What goes with the type (see :data:`EventType`): plain JSON types."""

    def with_heads(self) -> Event:
        """The event with the heads of its texts, and without messages."""
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

        A value in ``data`` that JSON does not know is written as its ``repr``: a log must not end a run.
        """
        return json.dumps(self.to_dict(), ensure_ascii=False, default=repr)

    @classmethod
    def from_json(cls, text: str | bytes) -> Event:
        """Read what :meth:`to_json` wrote.

        Raises:
            ValueError: when it is no event, or one of a schema that this version does not know.
        """
        return cls.from_dict(json.loads(text))

    @classmethod
    def from_dict(cls, record: Any) -> Event:
        """Read what :meth:`to_dict` gave.

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
"""A consumer of events. It is called from the thread or the task that runs the graph: it must be quick, and
what it raises does not end the run. One with a true attribute ``heads_only`` gets the heads of texts. One that
writes somewhere may have methods ``begin`` and ``settle``: they are called off the event loop, before a run and after
it, and may block; what ``begin`` raises ends the run."""
