"""Leases: only one call at a time can run a thread, in all processes that share its checkpointer.

`rlm_adapters.graph.lease_places` says where they are kept.
"""

from __future__ import annotations

import asyncio
import hashlib
import threading
import time
from typing import Any, Final, Literal, TypeAlias

from rlm_adapters.effects import Steps, Wait, off_loop, sleep
from rlm_adapters.errors import InputError, ThreadBusyError
from rlm_adapters.graph.fencing import Fence, taken_over
from rlm_adapters.graph.lease_places import DatabasePlace, Place, place_of, running_loop

MultitaskStrategy: TypeAlias = Literal["reject", "enqueue"]
"""What a call does if another call is running its thread. The name is that of LangGraph's server."""

STRATEGIES: Final = ("reject", "enqueue", None)
_GRACE: Final = 0.5
"""Seconds that a call waits before it is rejected, because a cancelled call may still be cleaning up."""
_POLL: Final = (0.02, 0.5)
"""Seconds between two attempts: at first, and at most."""
_CHECK_EVERY: Final = 5.0
"""Seconds after which a step checks that PostgreSQL still holds the lease."""


def check_strategy(value: Any) -> MultitaskStrategy | None:
    """Check ``multitask_strategy=``.

    Raises:
        InputError: it is unknown.
    """
    if value in STRATEGIES:
        return value  # type: ignore[no-any-return]
    raise InputError(f'multitask_strategy={value!r:.80} is unknown: use "reject", "enqueue", or None for no lease')


class Lease:
    """The right to run a thread, until it is released or this process ends.

    Args:
        place: place of the lease.
        name: name of the thread in this place.
        thread: thread id of the caller.
    """

    def __init__(self, place: Place, name: str, thread: str) -> None:
        self._place = place
        self._name = name
        self._thread = thread
        self._looked = time.monotonic()
        self.fence = Fence(place, name, thread) if isinstance(place, DatabasePlace) else None

    @property
    def of_processes(self) -> bool:
        """Whether other processes may have run the thread."""
        return self._place.blocks

    def due(self) -> bool:
        """Whether it is time for `check`."""
        if self.fence is not None and self.fence.lost:
            return True
        return self._place.may_be_lost and time.monotonic() - self._looked > _CHECK_EVERY

    def check(self) -> None:
        """Check that the lease is still held. May block.

        Raises:
            LeaseLostError: it was lost with the connection, and another call has taken it.
        """
        self._looked = time.monotonic()
        if (self.fence is not None and self.fence.lost) or not self._place.holds(self._name):
            raise taken_over(self._thread)

    def release(self) -> Steps[None]:
        """Release the lease."""
        if self._place.blocks:
            yield off_loop(lambda: self._place.free(self._name))
        else:
            self._place.free(self._name)

    def release_soon(self) -> None:
        """Release the lease without waiting on an event loop."""
        if self._place.blocks and running_loop() is not None:
            threading.Thread(target=self._place.free, args=(self._name,), daemon=True, name="rlm-lease").start()
        else:
            self._place.free(self._name)


def leased(saver: Any, thread: str, strategy: MultitaskStrategy | None) -> Steps[Lease | None]:
    """Take the lease of a thread.

    Args:
        saver: checkpointer of the thread.
        thread: id of the thread.
        strategy: what to do while another call has it; None: no lease.

    Returns:
        The lease; None if this checkpointer has no leases, or ``strategy`` is None.

    Raises:
        ThreadBusyError: another call has it.
    """
    place = None if strategy is None else (yield from place_of(saver))
    if place is None:
        return None
    name = hashlib.sha256(thread.encode("utf-8", "surrogatepass")).hexdigest()
    begun, pause = time.monotonic(), _POLL[0]
    while not (yield from _attempt(place, name)):
        if strategy == "reject" and time.monotonic() - begun > _GRACE:
            raise ThreadBusyError(
                f"thread {thread!r} is being run by another call, in this process or another one: wait until that one "
                "has ended, stop it, or have calls wait for each other with multitask_strategy='enqueue'"
            )
        yield sleep(pause)
        pause = min(2 * pause, _POLL[1])
    return Lease(place, name, thread)


def _attempt(place: Place, name: str) -> Steps[bool]:
    if not place.blocks:
        return place.take(name)
    taken: bool = yield Wait(lambda: place.take(name), lambda: _not_lost(place, name))
    return taken


async def _not_lost(place: Place, name: str) -> bool:
    """Take a lease in a thread. If the call is cancelled, the lease is released."""
    work = asyncio.ensure_future(asyncio.to_thread(place.take, name))
    try:
        return await asyncio.shield(work)
    except asyncio.CancelledError:
        work.add_done_callback(lambda done: threading.Thread(target=_undo, args=(place, name, done)).start())
        raise


def _undo(place: Place, name: str, done: asyncio.Future[bool]) -> None:
    if not done.cancelled() and done.exception() is None and done.result():
        place.free(name)
