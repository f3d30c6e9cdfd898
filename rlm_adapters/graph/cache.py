"""Answer identical prompts of one run only once, if the user wants it."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from rlm_adapters.effects import Steps, wait_for_future
from rlm_adapters.models.usage import Usage


class PromptCache:
    """The answers of a call tree by prompt. Thread-safe.

    If the same prompt is being asked, wait for its answer. So identical prompts of a batch share one call, too. A
    failure is not kept: the waiting calls then ask again.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: dict[str, str] = {}
        self._waiting: dict[str, list[Future[None]]] = {}

    def ask(self, asked: tuple[Any, ...], call: Callable[[], Steps[tuple[str, Usage]]]) -> Steps[tuple[str, Usage]]:
        """The known answer, or that of ``call``.

        Returns:
            The text and the usage. The usage is empty if the answer was known.
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
                turn: Future[None] = (
                    Future()
                )  # one for each waiting call, so a cancelled one does not affect the others
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
