"""The CPU limit of a cell."""

from __future__ import annotations

import signal
from typing import Final

from rlm_adapters.sandbox.runtime.control import CellTimeout

_REPEAT_SECONDS: Final = 0.5


class CpuTimer:
    """Raises `CellTimeout` in the cell when its CPU time is used, and again every half second.

    While a frame is being sent, the exception is delayed, because an incomplete frame would end the session.
    """

    def __init__(self) -> None:
        self._armed = False
        self._deferred = False
        self._late = False
        signal.signal(signal.SIGPROF, self._expire)

    def start(self, seconds: float) -> None:
        """Give the cell this CPU time from now on. Waiting for the host takes no CPU time."""
        self._armed = True
        signal.setitimer(signal.ITIMER_PROF, max(seconds, 1e-3), _REPEAT_SECONDS)

    def stop(self) -> None:
        """The cell has ended: raise nothing more."""
        while self._armed:
            try:
                self._armed = False
            except CellTimeout:
                continue
        self._late = False
        signal.setitimer(signal.ITIMER_PROF, 0)

    def __enter__(self) -> None:
        self._deferred = True

    def __exit__(self, *exception: object) -> None:
        self._deferred = False
        if self._late:
            self._late = False
            raise CellTimeout

    def _expire(self, _signum: int, _frame: object) -> None:
        if self._deferred:
            self._late = True
        elif self._armed:
            raise CellTimeout
