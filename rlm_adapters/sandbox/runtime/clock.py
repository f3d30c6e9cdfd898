"""The clock of a session. It starts at a fixed time and moves only when a cell sleeps or reads it.

A cell that is replayed in a new worker must see the same times. Otherwise its prompts would differ.
"""

from __future__ import annotations

import datetime as dt
from typing import Final

_TICK: Final = 1e-6
"""Seconds per read, so that ``while time.time() < deadline`` ends, and always in the same way."""


class VirtualClock:
    """A clock that starts at ``epoch`` (seconds since 1970, UTC)."""

    def __init__(self, epoch: float) -> None:
        self._epoch = epoch
        self._elapsed = 0.0

    def start(self, epoch: float) -> None:
        """Begin the session at another instant, in seconds since 1970."""
        self._epoch = epoch

    def time(self) -> float:
        """Seconds since 1970."""
        return self._epoch + self.monotonic()

    def monotonic(self) -> float:
        """Seconds since the session began."""
        self._elapsed += _TICK
        return self._elapsed

    def sleep(self, seconds: float, /) -> None:
        """Move the clock without waiting."""
        seconds = float(seconds)
        if not seconds >= 0:
            raise ValueError("sleep length must be non-negative")
        self._elapsed += seconds

    def advance_to(self, moment: float) -> None:
        """Move the clock to ``moment`` on the scale of `monotonic`, if it is in the future."""
        self._elapsed = max(self._elapsed, moment)

    def now(self, cls: type[dt.datetime], tz: dt.tzinfo | None = None) -> dt.datetime:
        """``cls.now(tz)``. Local time is UTC."""
        moment = cls.fromtimestamp(self.time(), dt.UTC)
        return moment.replace(tzinfo=None) if tz is None else moment.astimezone(tz)

    def utcnow(self, cls: type[dt.datetime]) -> dt.datetime:
        """``cls.utcnow()``."""
        return self.now(cls)

    def today(self, cls: type[dt.date]) -> dt.date:
        """``cls.today()``."""
        if issubclass(cls, dt.datetime):
            return self.now(cls)
        moment = self.now(dt.datetime)
        return cls(moment.year, moment.month, moment.day)
