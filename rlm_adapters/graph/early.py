"""Calls that were made while the root LM was still writing the cell that will ask for them, and whether that pays.

They wait here, in the live part of a run, until the cell asks (`EarlyCalls.join`) or its end shows that it does not
(`EarlyCalls.settle`). Nothing of them is in the state before: a run that is killed makes them again.
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
"""Calls in vain that are not yet a sign of anything."""
_WORTH: Final = 0.1
"""Share of the time of writing that has to be won."""


@dataclass(slots=True, eq=False)
class EarlyCall:
    """A call that was made early.

    Attributes:
        id: of the call.
        made: the `SubCall`, with its record.
        began: when it was made, as seconds since the epoch and on the monotonic clock.
        started: what makes it; gives value and usage.
        ended: when it was answered, on the monotonic clock.
        used: a cell has asked for it.
        counted: the cell's own run-ahead counts it.
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
        """How long it took, or has taken so far."""
        return (self.ended or time.monotonic()) - self.began[1]


@dataclass(frozen=True, slots=True)
class Settled:
    """What became of the early calls of a reply.

    Attributes:
        calls: how many there were.
        used: those that the cell asked for.
        uncounted: of these, those that the cell's own run-ahead has not counted.
        seconds: how long the used ones were being answered before the reply was complete.
        usage: of the unused ones that were answered.
    """

    calls: int
    used: int
    uncounted: int
    seconds: float
    usage: Usage

    @property
    def wasted(self) -> int:
        """Those that nobody asked for."""
        return self.calls - self.used

    def told(self) -> dict[str, Any]:
        """For the event about the end of the cell."""
        return {"calls": self.calls, "used": self.used, "seconds": round(self.seconds, 3)}


class EarlyCalls:
    """The early calls of one run tree, and the account that says whether to make more. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._replies: dict[str, _Reply] = {}
        self._vain = self._skip = 0
        self._deaf = False
        self.calls = self.wasted = 0
        """Early calls so far, and those that no cell asked for."""

    # -- whether it pays

    @property
    def stopped(self) -> bool:
        """Whether too much was in vain: the cell was another one than it seemed, or failed before it asked."""
        return self.wasted > max(_FREE_WASTE, MAX_WASTE * self.calls)

    def is_due(self) -> bool:
        """Whether to listen to the next reply: less and less often while nothing is won by it."""
        with self._lock:
            if self._deaf or self.stopped:
                return False
            if self._skip:
                self._skip -= 1
                return False
            return True

    def stop_listening(self) -> None:
        """Ask the root LM without streaming from here on: its server does not stream, or not with the usage."""
        self._deaf = True

    # -- the calls of a reply

    def begin(self, run_id: str, stop: Callable[[], object]) -> None:
        """A reply of a run begins; ``stop`` ends the looking ahead at it, from any thread."""
        with self._lock:
            left = self._replies.pop(run_id, None)
            self._replies[run_id] = _Reply(stop)
        if left is not None:
            left.give_up()

    def add(self, run_id: str, call: EarlyCall) -> bool:
        """A call of the reply is about to be made; False: too late."""
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
        """The early call that a cell asks for now; None: there is none, or it was given up.

        Args:
            run_id: of the run.
            call_id: of the call.
            ahead: the cell's run-ahead asks for it, and counts it.
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
        """The cell for which the calls were made has ended, or never came to be.

        Returns:
            What became of them; None: nobody listened to this reply, or that was told before.
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
        """A run has ended: give up what is left of it."""
        with self._lock:
            reply = self._replies.pop(run_id, None)
        if reply is not None:
            reply.give_up()

    def close(self) -> None:
        """Give up everything."""
        with self._lock:
            left, self._replies = list(self._replies.values()), {}
        for reply in left:
            reply.give_up()

    def __len__(self) -> int:
        """How many calls are waiting to be asked for."""
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
                call.started.cancel()  # what is done does not mind

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
        """Seconds before the end of the reply in which one of these calls was being answered."""
        end = self.ended if self.ended is not None else time.monotonic()
        won, reached = 0.0, 0.0
        for call in sorted(calls, key=lambda one: one.began[1]):
            first, last = max(call.began[1], reached), min(call.ended or end, end)
            won += max(0.0, last - first)
            reached = max(reached, last)
        return won
