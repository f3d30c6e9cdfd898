"""Runs that wait for an agent's tools: where they are saved, and when they expire."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable

from langgraph.checkpoint.base import BaseCheckpointSaver

from rlm_adapters.effects import Steps, Wait


class SuspendedRuns:
    """Forgets saved runs that nobody came back for.

    Args:
        saver: where LangGraph saves them.
        seconds: how long a suspended run is kept.
        count: how many are kept at most; the oldest go first.
        clock: seconds, monotonic.
    """

    def __init__(
        self,
        saver: BaseCheckpointSaver[str],
        *,
        seconds: float,
        count: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.saver = saver
        self._seconds = seconds
        self._count = count
        self._clock = clock
        self._since: OrderedDict[str, float] = OrderedDict()
        self._lock = threading.Lock()

    def note(self, thread: str) -> None:
        """Start the time of a run that was suspended now."""
        with self._lock:
            self._since.pop(thread, None)
            self._since[thread] = self._clock()

    def sweep(self) -> Steps[list[str]]:
        """Delete what has expired.

        Returns:
            The ids of the deleted runs.
        """
        with self._lock:
            oldest = self._clock() - self._seconds
            excess = max(0, len(self._since) - self._count)
            gone = [
                thread
                for number, (thread, since) in enumerate(self._since.items())
                if number < excess or since < oldest
            ]
            for thread in gone:
                del self._since[thread]
        for thread in gone:
            yield from self._delete(thread)
        return gone

    def forget(self, thread: str) -> Steps[None]:
        """Delete a run that has ended."""
        with self._lock:
            self._since.pop(thread, None)
        yield from self._delete(thread)

    def __len__(self) -> int:
        return len(self._since)

    def _delete(self, thread: str) -> Steps[None]:
        name = thread_name(thread)
        yield Wait(lambda: self.saver.delete_thread(name), lambda: self.saver.adelete_thread(name))


def thread_name(thread: str) -> str:
    """LangGraph's thread of a run: apart from other threads of a saver that is shared."""
    return f"rlm-{thread}"
