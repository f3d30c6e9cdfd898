"""Let DSPy stream from the threads in which the engine calls models.

DSPy sends the chunks of a sync program from its thread to the event loop that reads them. It uses
``anyio.from_thread``, which works only in threads of anyio. The engine calls models in other threads if calls run at
the same time or have a time-out. Such calls go through a thread of anyio.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, TypeVar

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import dspy
from dspy.dsp.utils.settings import settings

T = TypeVar("T")

_READER: Final[ContextVar[Any]] = ContextVar("rlm_stream_reader", default=None)
"""The event loop that reads the stream of the surrounding call. Threads of the call inherit it."""


@contextmanager
def stream_reader() -> Iterator[None]:
    """Set the event loop that reads the stream of the code inside, if there is one."""
    token = None if settings.send_stream is None else _current_loop()
    reset = _READER.set(token)
    try:
        yield
    finally:
        _READER.reset(reset)


def where_it_can_stream(work: Callable[[], T]) -> T:
    """Call a model in this thread, or in a thread that can send the chunks of its answer."""
    if settings.send_stream is None or _can_send():
        return work()
    token = _READER.get()
    if token is None:  # nobody reads the stream: call without chunks
        with dspy.context(send_stream=None):
            return work()
    in_thread = partial(anyio.to_thread.run_sync, work, limiter=anyio.CapacityLimiter(1))
    result: T = anyio.from_thread.run(in_thread, token=token)
    return result


def _current_loop() -> Any:
    """The event loop of this thread, or the one that started this thread of anyio."""
    try:
        return anyio.lowlevel.current_token()
    except RuntimeError:
        return anyio.from_thread.run_sync(anyio.lowlevel.current_token) if _can_send() else None


def _can_send() -> bool:
    """Whether this is a thread of anyio."""
    try:
        anyio.from_thread.check_cancelled()
    except RuntimeError:
        return False
    return True
