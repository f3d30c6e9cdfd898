"""The worker's stock of answers that the host sends before the cell asks for them.

The host already has many answers of a cell that is replayed or was run ahead. If they are in the worker, these calls
need no frames. The next frame reports the keys of the answers that were taken.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rlm_adapters.sandbox.protocol.journal import CallKeys, answer_from_json
from rlm_adapters.sandbox.protocol.types import Answer
from rlm_adapters.sandbox.runtime.hostcalls import WireCall


class Stock:
    """Answers for one cell, by the keys of their calls."""

    def __init__(self, answers: Mapping[str, Any]) -> None:
        self._answers = dict(answers)
        self._keys = CallKeys()
        self._taken: list[str] = []

    def add(self, answers: Mapping[str, Any]) -> None:
        """Add answers from the host."""
        self._answers.update(answers)

    def take(self, calls: Sequence[WireCall]) -> list[Answer] | None:
        """The answers to the next calls of the cell; None if the host must be asked."""
        keys = [self._keys.call(call.function, call.args, call.kwargs) for call in calls]
        if not all(key in self._answers for key in keys):
            return None
        self._taken += keys
        return [answer_from_json(self._answers.pop(key)) for key in keys]

    def taken(self) -> list[str]:
        """Keys of the answers that were taken since the last call."""
        keys, self._taken = self._taken, []
        return keys
