"""Early calls: sub-calls that are made while the root LM is still writing the cell.

They are kept here, in the live part of a run, until the cell asks for them (`EarlyCalls.join`) or ends without asking
(`EarlyCalls.settle`). Until then they are not in the state, so a killed run makes them again. This module also decides
whether early calls are worth their cost.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from rlm_adapters.effects import Started
from rlm_adapters.models.usage import Usage, add_usage
from rlm_adapters.sandbox.host.runahead import MAX_WASTE

_FREE_WASTE: Final = 4
"""Number of unused calls that is always accepted."""
_WORTH: Final = 0.1
"""Least share of the writing time that early calls must save."""


@dataclass(slots=True, eq=False)
class EarlyCall:
    """A call that was made early.

    Attributes:
        id: id of the call.
        made: the `SubCall`, with its record.
        began: when it was made, in seconds since the epoch and on the monotonic clock.
        started: the work that makes it; returns value and usage.
        ended: when it was answered, on the monotonic clock.
        used: whether a cell has asked for it.
        counted: whether the cell's run-ahead counts it.
    """

    id: str
    made: Any
    began: tuple[float, float] = field(default_factory=lambda: (time.time(), time.monotonic()))
    started: Started[tuple[Any, Usage]] | None = None
    ended: float | None = None
    used: bool = False
    counted: bool = False

    @property
    def seconds(self) -> float:
        """Duration of the call, or its duration so far."""
        return (self.ended or time.monotonic()) - self.began[1]


@dataclass(frozen=True, slots=True)
class Settled:
    """Summary of the early calls of a reply.

    Attributes:
        calls: number of early calls.
        used: number of calls that the cell asked for.
        uncounted: used calls that the cell's run-ahead has not counted.
        seconds: time in which used calls ran before the reply was complete.
        usage: usage of the unused calls that were answered.
    """

    calls: int
    used: int
    uncounted: int
    seconds: float
    usage: Usage

    @property
    def wasted(self) -> int:
        """Number of unused calls."""
        return self.calls - self.used

    def told(self) -> dict[str, Any]:
        """Data for the event at the end of the cell."""
        return {"calls": self.calls, "used": self.used, "seconds": round(self.seconds, 3)}


class EarlyCalls:
    """The early calls of one call tree, and the account that decides whether to make more. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replies: dict[str, _Reply] = {}
        self._vain = self._skip = 0
        self._deaf = False
        self.calls = self.wasted = 0
        """Number of early calls so far, and of unused ones."""

    # -- whether early calls are worth it

    @property
    def stopped(self) -> bool:
        """Whether too many calls were not used: the cell was different, or failed before it asked."""
        return self.wasted > max(_FREE_WASTE, MAX_WASTE * self.calls)

    def is_due(self) -> bool:
        """Whether to listen to the next reply: less and less often while it saves nothing."""
        with self._lock:
            if self._deaf or self.stopped:
                return False
            if self._skip:
                self._skip -= 1
                return False
            return True

    def stop_listening(self) -> None:
        """Stop streaming the root LM, because its server does not stream, or not with the usage."""
        self._deaf = True

    # -- the calls of a reply

    def begin(self, run_id: str, stop: Callable[[], object]) -> None:
        """A reply of a run begins. ``stop`` ends its look-ahead and can be called from any thread."""
        with self._lock:
            left = self._replies.pop(run_id, None)
            self._replies[run_id] = _Reply(stop)
        if left is not None:
            left.give_up()

    def add(self, run_id: str, call: EarlyCall) -> bool:
        """Add a call of the reply before it is made; False if it is too late."""
        with self._lock:
            reply = self._replies.get(run_id)
            if reply is None or call.id in reply.calls:
                return False
            reply.calls[call.id] = call
            return True

    def written(self, run_id: str) -> None:
        """The reply is complete."""
        with self._lock:
            if (reply := self._replies.get(run_id)) is not None:
                reply.ended = time.monotonic()

    def join(self, run_id: str, call_id: str, *, ahead: bool) -> EarlyCall | None:
        """The early call that a cell asks for now; None: there is none, or it was cancelled.

        Args:
            run_id: id of the run.
            call_id: id of the call.
            ahead: whether the cell's run-ahead asks for it, and counts it.
        """
        with self._lock:
            reply = self._replies.get(run_id)
            call = None if reply is None else reply.calls.get(call_id)
            if call is None or call.started is None or call.started.future.cancelled():
                return None
            call.used = True
            call.counted = call.counted or ahead
            return call

    def settle(self, run_id: str) -> Settled | None:
        """Close the account of a reply: its cell has ended, or does not exist.

        Returns:
            The summary; None: nobody listened to this reply, or `settle` was called before.
        """
        with self._lock:
            reply = self._replies.pop(run_id, None)
            if reply is None:
                return None
            settled = reply.settled()
            wrote = (reply.ended or time.monotonic()) - reply.began
            self.wasted += settled.wasted
            self.calls += settled.calls
            if settled.seconds >= _WORTH * wrote:
                self._vain = self._skip = 0
            else:
                self._skip, self._vain = (4 ** (self._vain - 1) if self._vain else 0), self._vain + 1
        reply.give_up()
        return settled

    def end(self, run_id: str) -> None:
        """A run has ended: cancel its remaining calls."""
        with self._lock:
            reply = self._replies.pop(run_id, None)
        if reply is not None:
            reply.give_up()

    def close(self) -> None:
        """Cancel everything."""
        with self._lock:
            left, self._replies = list(self._replies.values()), {}
        for reply in left:
            reply.give_up()

    def __len__(self) -> int:
        """Number of calls that no cell has asked for yet."""
        return sum(len(reply.calls) for reply in self._replies.values())


class _Reply:
    """The early calls of a reply."""

    def __init__(self, stop: Callable[[], object]) -> None:
        self._stop = stop
        self.began = time.monotonic()
        self.ended: float | None = None
        self.calls: dict[str, EarlyCall] = {}

    def give_up(self) -> None:
        self._stop()
        for call in self.calls.values():
            if call.started is not None:
                call.started.cancel()  # no effect on finished calls

    def settled(self) -> Settled:
        calls = list(self.calls.values())
        usage: Usage = {}
        for call in calls:
            future = None if call.used or call.started is None else call.started.future
            if future is not None and future.done() and not future.cancelled():
                error = future.exception()
                usage = add_usage(usage, getattr(error, "usage", None) if error is not None else future.result()[1])
        return Settled(
            calls=len(calls),
            used=sum(call.used for call in calls),
            uncounted=sum(call.used and not call.counted for call in calls),
            seconds=self._won([call for call in calls if call.used]),
            usage=usage,
        )

    def _won(self, calls: list[EarlyCall]) -> float:
        """Seconds before the end of the reply in which at least one of these calls ran."""
        end = self.ended if self.ended is not None else time.monotonic()
        won, reached = 0.0, 0.0
        for call in sorted(calls, key=lambda one: one.began[1]):
            first, last = max(call.began[1], reached), min(call.ended or end, end)
            won += max(0.0, last - first)
            reached = max(reached, last)
        return won
