"""Send the progress of a run as custom events to LangChain's callbacks and the LangGraph node around the chat model.

Both get the same dict: an `rlm_adapters.events.Event` with the key ``progress``, the progress of the whole call tree.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackHandler,
    CallbackManager,
    CallbackManagerForLLMRun,
)

from rlm_adapters.effects import Steps, Wait
from rlm_adapters.events import Event
from rlm_adapters.models.usage import Usage

EVENT_NAME = "rlm"
"""Name of the custom events."""

_LOG = logging.getLogger("rlm_adapters")


class Progress:
    """Passes a run's events on to the caller, in order.

    Args:
        run: of the chat model; its handlers get the events. None: there are no handlers.
        write: writer of the ``custom`` stream of the LangGraph node around it; None: there is no node.
        used: the usage of the call tree so far.
    """

    heads_only = True
    """Only the heads of prompts and answers are sent, because a server would store them again."""

    def __init__(
        self,
        run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None,
        write: Callable[[Any], None] | None,
        used: Callable[[], Usage],
    ) -> None:
        self.run_id = ""
        """The engine's id of the outermost run."""
        self._used = used
        self._counts = {"iterations": 0, "calls_started": 0, "calls_finished": 0}
        self._write = write
        self._callbacks = _custom_callbacks(run)
        self._lock = threading.Lock()
        self._queue: list[dict[str, Any]] = []
        self._pump: asyncio.Task[None] | None = None
        self._dispatch = self._callbacks.on_custom_event if self._callbacks is not None else None
        self._llm_run_id = run.run_id if run is not None else None

    def __call__(self, event: Event) -> None:
        """Add an event. Can be called from any thread or task."""
        if not self.run_id and event.depth == 0:
            self.run_id = event.run_id
        if self._write is None and self._callbacks is None:
            return
        with self._lock:
            self._count(event)
            told = {**event.to_dict(), "progress": {**self._counts, "cost": self._used().get("cost", 0)}}
            if self._write is not None:
                self._write(told)
            if isinstance(self._callbacks, CallbackManager):
                self._callbacks.on_custom_event(EVENT_NAME, told, run_id=self._llm_run_id)
            elif self._callbacks is not None:
                self._queue.append(told)
                if self._pump is None or self._pump.done():
                    self._pump = asyncio.get_running_loop().create_task(self._drain())

    def finish(self) -> Steps[None]:
        """Wait until all events are passed on."""
        pump = self._pump
        if pump is not None:
            yield Wait(lambda: None, lambda: pump)

    def _count(self, event: Event) -> None:
        if event.type == "iteration_started":
            self._counts["iterations"] += event.depth == 0
        elif event.type == "calls_started":
            self._counts["calls_started"] += int(event.data.get("count", 0))
        elif event.type == "call_finished" and not event.data.get("dropped"):
            self._counts["calls_finished"] += 1

    async def _drain(self) -> None:
        while self._queue:
            told = self._queue.pop(0)
            sending: Any = self._dispatch(EVENT_NAME, told, run_id=self._llm_run_id) if self._dispatch else None
            try:
                if isinstance(sending, Awaitable):
                    await sending
            except Exception:  # noqa: BLE001 - a listener's fault is not the run's
                _LOG.exception("a callback failed on a progress event")


def _custom_callbacks(
    run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None,
) -> CallbackManager | AsyncCallbackManager | None:
    """A manager of the handlers that use custom events."""
    if run is None:
        return None
    listening = [handler for handler in run.handlers if _listens(handler)]
    if not listening:
        return None
    kind: Any = AsyncCallbackManager if isinstance(run, AsyncCallbackManagerForLLMRun) else CallbackManager
    manager: CallbackManager | AsyncCallbackManager = kind(
        handlers=listening, parent_run_id=run.parent_run_id, tags=run.tags, metadata=run.metadata
    )
    return manager


def _listens(handler: BaseCallbackHandler) -> bool:
    if handler.ignore_custom_event:
        return False
    return type(handler).on_custom_event is not BaseCallbackHandler.on_custom_event
