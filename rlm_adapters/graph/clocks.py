"""Clocks that disagree: a call does not begin where what it saves would count as older than what is there.

LangGraph names checkpoints by the clock of the machine that makes them, and takes the greatest name for the newest. A
process whose clock is behind that of the process before it would save in vain: whoever reads the thread finds the old
state, and pays for the same calls again. Inside of one process LangGraph's names always grow.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from datetime import UTC, datetime
from functools import cache
from typing import Any, Final

from langgraph.checkpoint.base import CheckpointTuple
from langgraph.checkpoint.base.id import uuid6

from rlm_adapters.errors import CheckpointError
from rlm_adapters.graph.one_call import for_one_call

_PATIENCE: Final = 5.0
"""Seconds that a call waits for its clock: machines that set theirs by the network differ by less."""
_EPOCH: Final = 0x01B21DD213814000
"""Tenths of microseconds from the beginning of UUIDs' time, in 1582, to that of Unix's."""


def in_order(saver: Any) -> Any:
    """The saver for one call: the same one, but that it gives no checkpoint that this process cannot add to."""
    return for_one_call(saver, _kind, _async_kind)


@cache
def _kind(kind: Any) -> Any:
    class InOrder(kind):  # type: ignore[misc]
        """A saver of one call."""

        def get_tuple(self, config: Any) -> Any:
            found = super().get_tuple(config)
            while (seconds := _to_wait(found)) > 0:
                time.sleep(seconds)
            return found

    return InOrder


@cache
def _async_kind(kind: Any) -> Any:
    class InOrder(kind):  # type: ignore[misc]
        """A saver of one call; its sync methods go through the async ones."""

        async def aget_tuple(self, config: Any) -> Any:
            found = await super().aget_tuple(config)
            while (seconds := _to_wait(found)) > 0:  # noqa: ASYNC110 - nothing tells that a clock has moved on
                await asyncio.sleep(seconds)
            return found

    return InOrder


def _to_wait(found: CheckpointTuple | None) -> float:
    """Seconds until this process makes names that are greater than that of a checkpoint.

    Raises:
        CheckpointError: too many.
    """
    name = "" if found is None else found.checkpoint["id"]
    mine = str(uuid6(clock_seq=0))
    if name < mine:
        return 0.0
    try:
        seconds = _seconds_of(name) - _seconds_of(mine) + 0.001
    except ValueError:  # no name of LangGraph's own: nothing is known about its order
        return 0.0
    if seconds > _PATIENCE:
        moment = datetime.fromtimestamp(_seconds_of(name), UTC)
        raise CheckpointError(
            f"this thread was saved by a clock that is {seconds:,.0f} s ahead of this machine's: what is saved here "
            "would be taken for older, and be lost. Set the clocks of both machines, and go on with the thread where "
            f"it was saved last, or here after {moment:%Y-%m-%d %H:%M:%S} UTC"
        )
    return seconds


def _seconds_of(name: str) -> float:
    """Seconds since 1970 in the name of a checkpoint, a UUID of version 6."""
    number = uuid.UUID(name).int
    return (((number >> 80) << 12 | (number >> 64) & 0xFFF) - _EPOCH) / 1e7
