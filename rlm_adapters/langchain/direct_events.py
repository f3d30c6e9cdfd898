"""The events of a direct call. It is reported as a run of one call."""

from __future__ import annotations

import time
import uuid
from collections.abc import Sequence
from typing import Any, Final

from langchain_core.messages import BaseMessage

from rlm_adapters.effects import Steps, off_loop
from rlm_adapters.events import Event, EventType
from rlm_adapters.graph.asking import root_call_id
from rlm_adapters.graph.context import Run
from rlm_adapters.models.calling import CallRecord
from rlm_adapters.models.shown import messages_of
from rlm_adapters.models.targets import ModelTarget

_CALL: Final = root_call_id(1)


class DirectRun:
    """Emits the events of a run with one call. Does nothing if there are no listeners.

    Args:
        run: the run with the listeners.
        target: the model.
        messages: the prompt.
    """

    def __init__(self, run: Run, target: ModelTarget, messages: Sequence[BaseMessage]) -> None:
        self.record = CallRecord(target.name)
        self.is_heard = run.wants_texts
        self._run = run
        self._id = uuid.uuid4().hex
        run.tell_job(self._id)
        self._target = target
        self._messages = messages
        self._began = time.monotonic()
        self._ended = False

    def start(self) -> Steps[None]:
        """Emit the start of the run and of its call.

        Raises:
            InputError: a trace cannot be written.
        """
        if self._run.must_settle():
            yield off_loop(self._run.begin)
        if not self.is_heard:
            return
        messages = messages_of(self._target, self._messages)
        question = next((one["text"] for one in reversed(messages) if one["role"] == "user"), "")
        model = self._target.name
        self._tell("run_started", self._id, {"query": question, "inputs": [], "model": model})
        told = {"model": model, "messages": messages, "prompt_chars": _size(messages), "direct": True}
        self._tell("iteration_started", _CALL, told, parent=self._id)

    def retried(self, retry: Any) -> None:
        """Emit a retry."""
        if self.is_heard:
            known = f"{_CALL}/retry-{retry.attempt}"
            self._tell("warning", known, retry.told(), parent=_CALL)

    def end(self, reply: str, reason: str, error: str | None = None) -> Steps[None]:
        """Emit the end, only once.

        Args:
            reply: the answer.
            reason: the finish reason.
            error: the error message.
        """
        self.tell_end(reply, reason, error)
        if self._run.must_settle():
            yield off_loop(self._run.settle)

    def tell_end(self, reply: str, reason: str, error: str | None = None) -> None:
        """`end`, without waiting until the events are written."""
        if self._ended or not self.is_heard:
            return
        self._ended = True
        seconds = time.monotonic() - self._began
        told = {"reply": reply, "reply_chars": len(reply), "seconds": seconds, "error": error, **self.record.figures()}
        self._tell("root_replied", _CALL, told, parent=self._id)
        answer = reply if error is None else None
        if error is None:
            self._tell("final", None, {"answer": answer, "function": reason}, parent=_CALL)
        usage = self._run.ledger.used
        ended = {"finish_reason": reason, "answer": answer, "usage": usage, "iterations": 1, "error": error}
        self._tell("run_finished", self._id, {**ended, "seconds": seconds})

    def _tell(self, type: EventType, id: str | None, data: dict[str, Any], *, parent: str | None = None) -> None:  # noqa: A002
        iteration = None if type.startswith("run_") else 1
        self._run.tell(Event(type=type, run_id=self._id, iteration=iteration, id=id, parent=parent, data=data))


def _size(messages: Sequence[dict[str, str]]) -> int:
    return sum(len(message["text"]) for message in messages)
