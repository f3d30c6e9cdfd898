"""Fencing: a call that has lost the lease of its thread cannot write to the thread any more.

A process can be paused for minutes (SIGSTOP, a paused machine). In this time the database session that holds its leases
may end, and another call may take the thread. When the first process wakes up, its next write would become the newest
checkpoint of the thread. So each write checks in its own transaction that the database session still exists. For this,
every session that holds leases also holds a lock with a random number, its token.

The transaction also takes a shared lock of the thread until it ends, and a call that takes the thread waits for this
lock. So no other call can take the thread between the check and the write.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from functools import cache
from typing import Any, Final, TypeVar

from rlm_adapters.errors import LeaseLostError
from rlm_adapters.graph.lease_places import DatabasePlace
from rlm_adapters.graph.one_call import for_one_call

R = TypeVar("R")

_STATEMENTS: Final = (
    "select pg_advisory_xact_lock_shared(%s)",
    "select 1 / (not pg_try_advisory_xact_lock_shared(%s))::int",
)
"""The first statement lets the thread's next owner wait. The second divides by zero if nobody holds the token."""

_MOST_LOSSES: Final = 4
"""Of the lease while one write is tried: whatever ends sessions may end the next one too."""


class Fence:
    """The check for the writes of one call.

    Args:
        place: place of the lease.
        name: name of the thread in this place.
        thread: thread id of the caller.
    """

    def __init__(self, place: DatabasePlace, name: str, thread: str) -> None:
        self._place = place
        self._name = name
        self._thread = thread
        self._guard = place.guard_of(name)
        self._token = place.token
        self._known: set[str | None] = set()
        self.lost = False
        """Whether a write was refused for good, so that no further step should start."""

    def statements(self) -> Iterator[tuple[str, tuple[int]]]:
        """Statements that fail, with their transaction, if the last known session has ended."""
        return zip(_STATEMENTS, ((self._guard,), (self._token,)), strict=True)

    def knows(self, config: Any, checkpoint: str | None) -> None:
        """Note the newest checkpoint of the thread, which this call has read or is going to write.

        Args:
            config: the config of the checkpointer call.
            checkpoint: id of the checkpoint; None: the thread is new.
        """
        if not config["configurable"].get("checkpoint_ns"):
            self._known.add(checkpoint)

    @property
    def newest(self) -> Any:
        """Config of the thread's newest checkpoint."""
        return {"configurable": {"thread_id": self._thread, "checkpoint_ns": ""}}

    def take_again(self) -> int:
        """Take the lease again after its session has ended. May block.

        Returns:
            The token of the new session.

        Raises:
            LeaseLostError: another call has it.
        """
        if not self._place.holds(self._name):
            self.lost = True
            raise taken_over(self._thread)
        return self._place.token

    def go_on(self, token: int, newest: Any) -> None:
        """Continue with a lease that was taken again, unless another call had it in between.

        Args:
            token: token of the new session.
            newest: LangGraph's tuple of the thread's newest checkpoint, read after that; None: there is none.

        Raises:
            LeaseLostError: the checkpoint is from another call.
        """
        if (None if newest is None else newest.config["configurable"]["checkpoint_id"]) not in self._known:
            self.lost = True
            raise taken_over(self._thread)
        self._token = token


def taken_over(thread: str) -> LeaseLostError:
    """The error for a call whose thread another call has taken."""
    return LeaseLostError(
        f"thread {thread!r} was taken over by another call while the connection to its checkpointer's database was "
        "lost: this call ends here and has saved nothing since, the other one goes on"
    )


def fenced(saver: Any, fence: Fence) -> Any:
    """A copy of the checkpointer for one call, which refuses to write if the lease is lost."""
    if not hasattr(type(saver), "_cursor"):
        return saver  # an unknown version of the checkpointer: the lease is still checked at each step
    made = for_one_call(saver, _kind, _async_kind)
    made.fence = fence
    return made


@cache
def _kind(kind: Any) -> Any:
    class Fenced(kind):  # type: ignore[misc]
        """`PostgresSaver`, of one call."""

        fence: Fence

        @contextmanager
        def _cursor(self, *, pipeline: bool = False) -> Iterator[Any]:
            with super()._cursor(pipeline=pipeline) as cursor:
                if pipeline:  # this is a write
                    for statement in self.fence.statements():
                        cursor.execute(*statement)
                yield cursor

        def get_tuple(self, config: Any) -> Any:
            found = super().get_tuple(config)
            if not config["configurable"].get("checkpoint_id"):
                self.fence.knows(config, found and found.config["configurable"]["checkpoint_id"])
            return found

        def put(self, config: Any, checkpoint: Any, *args: Any) -> Any:
            self.fence.knows(config, checkpoint["id"])
            return self._written(lambda: super(Fenced, self).put(config, checkpoint, *args))

        # Named arguments: LangGraph looks for `task_path` among them, and leaves it out if it is not there.
        def put_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
            return self._written(lambda: super(Fenced, self).put_writes(config, writes, task_id, task_path))

        def _written(self, write: Callable[[], R]) -> R:
            for _ in range(_MOST_LOSSES):
                try:
                    return write()
                except _refusals():
                    token = self.fence.take_again()
                    self.fence.go_on(token, super().get_tuple(self.fence.newest))
            return write()

    return Fenced


@cache
def _async_kind(kind: Any) -> Any:
    class Fenced(kind):  # type: ignore[misc]
        """`AsyncPostgresSaver`, of one call. Its sync methods use the async ones."""

        fence: Fence

        @asynccontextmanager
        async def _cursor(self, *, pipeline: bool = False) -> AsyncIterator[Any]:
            async with super()._cursor(pipeline=pipeline) as cursor:
                if pipeline:
                    for statement in self.fence.statements():
                        await cursor.execute(*statement)
                yield cursor

        async def aget_tuple(self, config: Any) -> Any:
            found = await super().aget_tuple(config)
            if not config["configurable"].get("checkpoint_id"):
                self.fence.knows(config, found and found.config["configurable"]["checkpoint_id"])
            return found

        async def aput(self, config: Any, checkpoint: Any, *args: Any) -> Any:
            self.fence.knows(config, checkpoint["id"])
            return await self._written(lambda: super(Fenced, self).aput(config, checkpoint, *args))

        async def aput_writes(self, config: Any, writes: Any, task_id: str, task_path: str = "") -> Any:
            return await self._written(lambda: super(Fenced, self).aput_writes(config, writes, task_id, task_path))

        async def _written(self, write: Callable[[], Coroutine[Any, Any, R]]) -> R:
            for _ in range(_MOST_LOSSES):
                try:
                    return await write()
                except _refusals():
                    token = await asyncio.to_thread(self.fence.take_again)
                    self.fence.go_on(token, await super().aget_tuple(self.fence.newest))
            return await write()

    return Fenced


@cache
def _refusals() -> tuple[type[Exception], ...]:
    """Exceptions of a write whose transaction has failed at the fence."""
    from psycopg import errors  # noqa: PLC0415 - of an extra

    return errors.DivisionByZero, errors.PipelineAborted
