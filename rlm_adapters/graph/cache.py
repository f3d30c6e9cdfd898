"""Identical prompts of one run answered once, where the user wants that."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from rlm_adapters.effects import Steps, wait_for_future
from rlm_adapters.models.usage import Usage


class PromptCache:
    """Answers of a run tree by what was asked. Thread-safe.

    A prompt that is being asked right now is waited for, so the elements of a batch share one call as well. A failure
    is not kept: whoever waited asks for itself.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        self._waiting: dict[str, list[Future[None]]] = {}

    def ask(self, asked: tuple[Any, ...], call: Callable[[], Steps[tuple[str, Usage]]]) -> Steps[tuple[str, Usage]]:
        """The known answer, or that of ``call``.

        Returns:
            The text and the usage, which is empty when nothing was asked.
        """
        key = json.dumps(asked, sort_keys=True, default=repr)
        while True:
            with self._lock:
                if key in self._answers:
                    return self._answers[key], {}
                others = self._waiting.get(key)
                if others is None:
                    self._waiting[key] = []
                    break
                turn: Future[None] = Future()  # one for each who waits: a cancelled one must not disturb the others
                others.append(turn)
            yield wait_for_future(turn)
        try:
            text, usage = yield from call()
            with self._lock:
                self._answers[key] = text
        finally:
            with self._lock:
                waiting = self._waiting.pop(key)
            for turn in waiting:
                if turn.set_running_or_notify_cancel():
                    turn.set_result(None)
        return text, usage
