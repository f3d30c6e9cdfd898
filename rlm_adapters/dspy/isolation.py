"""Run the graph without the configuration of a LangChain run around the caller.

Inside a Runnable, LangChain's ambient config would make the graph a subgraph of the caller's graph, with its
checkpoints, callbacks, streams and step limit. A DSPy module is independent, so this config is hidden from it. All
other context variables, also those of DSPy, are copied.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from langchain_core.runnables.config import var_child_runnable_config

T = TypeVar("T")


def run_apart(work: Callable[[], T]) -> T:
    """Call ``work`` in a copy of the context without LangChain's ambient config."""
    return _apart().run(work)


async def arun_apart(work: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Async form of `run_apart`. A cancellation is passed on to the work."""
    return await asyncio.create_task(work(), context=_apart())


def _apart() -> contextvars.Context:
    context = contextvars.copy_context()
    context.run(var_child_runnable_config.set, None)
    return context
