"""Steps that block, done in a thread for an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

_T = TypeVar("_T")
_KILL_AGAIN_SECONDS: Final = 0.05


async def in_thread(pool: ThreadPoolExecutor, step: Callable[[], _T], kill: Callable[[], object]) -> _T:
    """Do a step of a session without blocking the event loop.

    Args:
        pool: whose threads do it.
        step: what blocks.
        kill: ends what the step waits for; called when the awaiting task is cancelled.
    """
    future = asyncio.wrap_future(pool.submit(step))
    # Whoever cancels may do so twice, as LangGraph and then the end of a loop do: nobody is left to ask how it ended.
    future.add_done_callback(lambda done: done.cancelled() or done.exception())
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        while not future.done():  # again, since a step that had no worker yet may be starting one
            await asyncio.wrap_future(pool.submit(kill))
            await asyncio.wait([future], timeout=_KILL_AGAIN_SECONDS)
        raise
