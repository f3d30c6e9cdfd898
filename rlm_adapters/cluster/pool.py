"""Places for sessions: actors on the nodes, each with room for a number of sessions.

A session that runs a cell keeps its place. A session that waits for a model or its caller loses its place if another
session needs it: its worker ends, and the session is rebuilt from its journal when it continues. So a run and its child
runs, which wait for each other, never block each other.
"""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Mapping
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from typing import Any, Final

from rlm_adapters.cluster.library import Library, LostError
from rlm_adapters.cluster.orders import Hello
from rlm_adapters.cluster.versions import version_here
from rlm_adapters.effects import Steps, wait_for_future
from rlm_adapters.errors import RLMError, SandboxError

_names: Final = itertools.count()
MOST_LOSSES: Final = 3
"""Nodes that may be lost under one piece of work. Then it is given up: it may be what ends them."""

_END_SECONDS: Final = 5.0
_FAILED_STARTS: Final = 5
"""After this number of failures in a row, the next start would fail, too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Number and placement of the actors, and their sessions; see `RaySandbox`."""

    actors: int | None
    sessions_per_actor: int
    options: Mapping[str, Any]
    start_seconds: float
    wait_seconds: float


@dataclass(eq=False, slots=True)
class Actor:
    """An actor that runs or is starting.

    Attributes:
        handle: Ray's handle.
        hello: its first message; None: it is not ready.
        seats: the places of its sessions.
    """

    handle: Any
    hello: Hello | None = None
    seats: set[Seat] = field(default_factory=set)


@dataclass(eq=False, slots=True)
class Seat:
    """The place of one session.

    Attributes:
        actor: its actor.
        name: name of the session there.
        busy: whether the session is being opened, or runs a cell.
        gone: whether the session is not there any more.
        since: when it was last busy.
    """

    actor: Actor
    name: str
    busy: bool = True
    gone: bool = False
    since: float = 0.0


class Pool:
    """The actors of a `RaySandbox`, or of rows. Thread-safe.

    Args:
        library: Ray, connected.
        placement: of the actors.
        host: class of the actors. It has ``hello()``, which returns a `Hello` when it is ready, ``close(name)``, which
            ends a session, and ``end()``. Its first argument is the caller's version of this package.
        given: its other arguments.
    """

    def __init__(self, library: Library, placement: Placement, host: type, *given: object) -> None:
        self._library = library
        self._placement = placement
        self._host = host
        self._given = given
        self._version = version_here()
        self._lock = threading.Lock()
        self._actors: list[Actor] = []
        self._waiting: list[Future[None]] = []
        self._failed: RLMError | None = None
        self._failures = 0
        self._closed = False
        count = placement.actors or max(1, len(library.nodes()))
        for _ in range(count):
            self._begin()

    # -- for sessions

    def take(self) -> Steps[Seat]:
        """Get a place for a session. It is busy at first.

        Raises:
            SandboxError: there is no place, or none in time.
        """
        began = time.monotonic()
        while True:
            with self._lock:
                seat, leaves = self._seat()
                freed: Future[None] = Future()
                if seat is None:
                    self._waiting.append(freed)
                ready = any(actor.hello for actor in self._actors)
            if seat is not None:
                if leaves is not None:
                    self._library.tell(leaves.actor.handle, "close", leaves.name)
                return seat
            limit = self._placement.wait_seconds if ready else self._placement.start_seconds
            try:
                yield wait_for_future(freed, max(0.001, limit - (time.monotonic() - began)))
            except TimeoutError:
                raise SandboxError(self._why_none(ready=ready)) from None
            finally:
                with self._lock:
                    if freed in self._waiting:
                        self._waiting.remove(freed)

    def enter(self, seat: Seat) -> bool:
        """Mark the session as busy, because it will run a cell; False if it has lost its place."""
        with self._lock:
            if not seat.gone:
                seat.busy = True
            return not seat.gone

    def rest(self, seat: Seat) -> None:
        """Mark the session as waiting. It may lose its place."""
        with self._lock:
            seat.busy, seat.since = False, time.monotonic()
            self._wake()

    def leave(self, seat: Seat) -> None:
        """Release the place. Can be called twice."""
        with self._lock:
            if seat.gone:
                return
            self._free(seat)
            self._wake()
        self._library.tell(seat.actor.handle, "close", seat.name)

    def ask(self, seat: Seat, method: str, *args: object) -> Future[Any]:
        """Call a method of the session's actor."""
        return self._library.ask(seat.actor.handle, method, seat.name, *args)

    def lost(self, actor: Actor) -> None:
        """An actor does not answer: replace it. Its sessions are rebuilt on other actors."""
        with self._lock:
            if actor not in self._actors:
                return
            self._remove(actor)
        self._replace(actor)

    # -- for the sandbox

    def hellos(self) -> Steps[tuple[Hello, ...]]:
        """The first messages of the ready actors. Waits for the first one.

        Raises:
            SandboxError: no actor starts.
        """
        seat = yield from self.take()
        self.leave(seat)
        with self._lock:
            return tuple(actor.hello for actor in self._actors if actor.hello)

    def sessions(self) -> tuple[tuple[str, int], ...]:
        """Node and number of sessions of each ready actor."""
        with self._lock:
            return tuple((actor.hello.node, len(actor.seats)) for actor in self._actors if actor.hello)

    def close(self, seconds: float = _END_SECONDS) -> None:
        """End all actors.

        Args:
            seconds: that they have for it; 0: nobody waits, and Ray ends them when they have.
        """
        with self._lock:
            self._closed = True
            self._failed = SandboxError("the actors were closed by whoever made them: make new ones")
            actors = list(self._actors)
            for actor in actors:
                self._remove(actor)
            self._wake()
        ending = [self._library.ask(actor.handle, "end") for actor in actors if actor.hello is not None]
        if seconds:
            wait(ending, seconds)
        for actor in actors:
            if seconds or actor.hello is None:
                self._library.kill(actor.handle)

    # -- parts

    def _replace(self, actor: Actor) -> None:
        """Start another actor in a thread, because neither an event loop nor Ray's threads may wait for Ray."""

        def run() -> None:
            self._library.kill(actor.handle)
            try:
                self._begin()
            except Exception as error:  # noqa: BLE001 - carried to whoever asks for a place
                with self._lock:
                    self._fail(error)

        threading.Thread(target=run, daemon=True, name="rlm-ray-actor").start()

    # -- with the lock held

    def _seat(self) -> tuple[Seat | None, Seat | None]:
        """A free place, and the session that loses it."""
        if self._failed is not None:
            raise self._failed
        live = [actor for actor in self._actors if actor.hello is not None]
        if not live:
            return None, None
        actor = min(live, key=lambda one: len(one.seats))
        leaves = None
        if len(actor.seats) >= self._placement.sessions_per_actor:
            idle = [seat for one in live for seat in one.seats if not seat.busy]
            if not idle:
                return None, None
            leaves = min(idle, key=lambda seat: seat.since)
            actor = leaves.actor
            self._free(leaves)
        seat = Seat(actor, f"session-{next(_names)}")
        actor.seats.add(seat)
        return seat, leaves

    def _free(self, seat: Seat) -> None:
        seat.gone = True
        seat.actor.seats.discard(seat)

    def _remove(self, actor: Actor) -> None:
        self._actors.remove(actor)
        for seat in list(actor.seats):
            self._free(seat)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)

    def _fail(self, error: BaseException) -> None:
        """No actor can be made any more. All waiting and later requests fail."""
        known = self._library.translated(error)
        self._failed = known if isinstance(known, RLMError) else SandboxError(f"no actor can be made: {known}")
        self._wake()

    # -- without it

    def _begin(self) -> None:
        """Request another actor. If there is no room, Ray makes it later, and its autoscaler sees the request."""
        handle = self._library.actor(self._host, self._placement.options, self._version, *self._given)
        actor = Actor(handle)
        with self._lock:
            closed = self._closed
            if not closed:
                self._actors.append(actor)
        if closed:
            self._library.kill(actor.handle)
            return
        asked = self._library.ask(actor.handle, "hello")
        asked.add_done_callback(lambda done: self._said_hello(actor, done))

    def _said_hello(self, actor: Actor, done: Future[Any]) -> None:
        error = done.exception()
        with self._lock:
            if actor not in self._actors:
                return
            if error is None:
                actor.hello = done.result()
                self._failures = 0
                self._wake()
                return
            self._remove(actor)
            self._failures += 1
            if not isinstance(error, LostError) or self._failures >= _FAILED_STARTS:
                self._fail(error)
                return
        self._replace(actor)

    def _why_none(self, *, ready: bool) -> str:
        placement = self._placement
        with self._lock:
            count = len(self._actors)
        if ready:
            return (
                f"all {count * placement.sessions_per_actor} places of the cluster ran cells for "
                f"{placement.wait_seconds:g} s: give RaySandbox more actors, more sessions_per_actor or a longer "
                "wait_seconds, or begin fewer runs at once"
            )
        wanted = {
            key: placement.options[key] for key in ("num_cpus", "memory", "resources") if key in placement.options
        }
        try:
            free = {key: value for key, value in self._library.free().items() if not key.startswith("node:")}
        except Exception:  # noqa: BLE001 - only for the message
            free = {}
        return (
            f"no actor came to life within {placement.start_seconds:g} s: each asks for {wanted}, and the cluster has "
            f"{free or 'nothing'} free; ask for less (num_cpus=...), or add nodes"
        )
