"""Call models within the limits, with classified errors and retries.

All model calls of the engine go through `ModelCaller.call`: calls of the root LM, sub-calls at any depth, and the
question for the last answer.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import asdict, dataclass
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from rlm_adapters.effects import Steps, Wait, off_loop, sleep, wait_for_future
from rlm_adapters.errors import BudgetExceededError, ModelCallError
from rlm_adapters.models.budget import CallKind, Ledger, Reservation
from rlm_adapters.models.failures import classify, locate
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.prices import load_prices, prices_are_loaded
from rlm_adapters.models.provider_errors import is_stale, never_connected, retry_after
from rlm_adapters.models.targets import ModelReply, ModelTarget
from rlm_adapters.models.usage import Usage


@dataclass(slots=True)
class CallRecord:
    """Times and usage of a call. It is filled during the call; repeated requests add up.

    Attributes:
        model: name of the model.
        start: when the first attempt was sent, in seconds since the epoch; None: not sent yet.
        attempts: number of attempts.
        input_tokens: input tokens of the replies.
        output_tokens: output tokens of the replies.
        cached_tokens: input tokens that came from the provider's cache.
        cost: dollars; None: a price is unknown.
    """

    model: str = ""
    start: float | None = None
    attempts: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    cached_tokens: int = 0
    cost: float | None = 0.0

    def left(self) -> None:
        """Note an attempt."""
        self.attempts += 1
        if self.start is None:
            self.start = time.time()

    def answered(self, reply: ModelReply, cost: float | None) -> None:
        """Add a reply."""
        self.input_tokens += reply.input_tokens
        self.output_tokens += reply.output_tokens
        self.cached_tokens += reply.cached_tokens
        self.cost = None if cost is None or self.cost is None else self.cost + cost

    def figures(self) -> dict[str, Any]:
        """Data for the event at the end of the call."""
        tokens = {"input": self.input_tokens, "output": self.output_tokens, "cached": self.cached_tokens}
        begun = {"start": self.start} if self.start is not None else {}
        return {"model": self.model, **begun, "attempts": self.attempts, "tokens": tokens, "cost": self.cost}


@dataclass(frozen=True, slots=True)
class Retry:
    """A failed call that is retried.

    Attributes:
        model: name of the model.
        role: ``root LM`` or ``sub-LM``.
        kind: kind of the failure, as in `ModelCallError`.
        detail: message of the model's server.
        attempt: number of the retry, from 1.
        most: largest number of retries.
        seconds: time until the retry.
    """

    model: str
    role: str
    kind: str
    detail: str
    attempt: int
    most: int
    seconds: float

    def told(self) -> dict[str, Any]:
        """Data for the event about the retry."""
        message = (
            f"{self.role} {self.model!r} failed ({self.kind}): {self.detail}; "
            f"retry {self.attempt} of {self.most} in {self.seconds:.1f} s"
        )
        return {"message": message, "retry": asdict(self)}


_FIRST_DELAY = 0.5  # seconds before the first retry; doubled for each further retry
_LONGEST_DELAY = 60.0
_MOST_STALE = 1_000  # connections of a pool; httpx keeps 100, openai's client 1,000


_ROLES = {"root": "root LM", "sub": "sub-LM", "extract": "root LM"}


@dataclass(frozen=True, slots=True)
class _Asked:
    """The called model, and its role."""

    target: ModelTarget
    role: str
    on_retry: Callable[[Retry], None] | None
    record: CallRecord

    def locate(self, failure: ModelCallError, error: BaseException, tries: int) -> None:
        address = getattr(self.target, "address", None)
        locate(failure, error, model=self.target.name, role=self.role, address=address, tries=tries)

    def tell(self, failure: ModelCallError, attempt: int, most: int, seconds: float) -> None:
        if self.on_retry is not None:
            self.on_retry(
                Retry(self.target.name, self.role, failure.kind, failure.detail, attempt, most, round(seconds, 3))
            )


class ModelCaller:
    """Calls models within one run, with limits, limiter, time-out and retries.

    Args:
        ledger: of the call tree.
        limiter: of the call tree.
    """

    def __init__(self, ledger: Ledger, limiter: Limiter) -> None:
        self.ledger = ledger
        self.limiter = limiter

    def call(
        self,
        target: ModelTarget,
        prompt: Any,
        *,
        kind: CallKind,
        owner: str,
        config: RunnableConfig,
        role: str | None = None,
        on_retry: Callable[[Retry], None] | None = None,
        record: CallRecord | None = None,
    ) -> Steps[tuple[ModelReply, Usage]]:
        """Call a model once, with retries.

        Args:
            target: the model.
            prompt: in the form of the target.
            kind: for the ledger.
            owner: id of the calling run, for fairness.
            config: passed on for nested tracing.
            role: for messages; default: from ``kind``.
            on_retry: called with each retry, before the wait.
            record: gets the times and usage of the call.

        Returns:
            The reply and the usage of this call.

        Raises:
            BudgetExceededError: the call exceeds the limits of the run.
            ModelCallError: it failed after all retries.
        """
        if not prices_are_loaded():
            yield off_loop(load_prices)
        record = record or CallRecord()
        record.model = target.name
        estimate = target.estimate(prompt)
        reservation = yield from self._reserve(target.name, kind, estimate)
        try:
            asked = _Asked(target, role or _ROLES[kind], on_retry, record)
            reply = yield from self._attempts(asked, prompt, reservation, owner, config)
        except ModelCallError as error:
            error.usage = self.ledger.fail(reservation)
            raise
        except BaseException:
            self.ledger.release(reservation)
            raise
        usage = self.ledger.settle(reservation, reply.input_tokens, reply.output_tokens, reply.details)
        record.answered(reply, usage["cost"])
        return reply, usage

    def _reserve(self, model: str, kind: CallKind, estimate: int) -> Steps[Reservation]:
        while True:
            place = self.ledger.try_reserve(model, kind, estimate)
            if not isinstance(place, Future):
                return place
            try:
                yield wait_for_future(place, self.ledger.seconds_left(kind))
            except TimeoutError:
                raise self._over() from None

    def _slot(self, owner: str, reservation: Reservation) -> Steps[Callable[[], None]]:
        """Get a slot for a call. All limits are checked again when the slot is free.

        Raises:
            BudgetExceededError: the time limit of the run was reached.
        """

        def left() -> float | None:
            seconds = self.ledger.seconds_left(reservation.kind)
            return None if seconds is None else max(0.0, seconds)

        try:
            release = yield from self.limiter.slot(owner, reservation.tokens, left)
        except TimeoutError:
            raise self._over() from None
        if left() == 0.0:
            release()
            raise self._over()
        return release

    def _over(self) -> BudgetExceededError:
        return BudgetExceededError(
            f"the run's {self.ledger.limits.max_seconds:g} seconds are over", limit="max_seconds"
        )

    def _attempts(
        self, asked: _Asked, prompt: Any, reservation: Reservation, owner: str, config: RunnableConfig
    ) -> Steps[ModelReply]:
        target, limits = asked.target, self.ledger.limits
        most = reservation.output_tokens
        attempt = stale = 0
        while True:
            release = yield from self._slot(owner, reservation)
            try:
                with self.limiter.held(release):
                    left = self.ledger.seconds_left(reservation.kind)
                    timeout = limits.call_timeout if left is None else max(0.0, min(limits.call_timeout, left))
                    asked.record.left()
                    reply: ModelReply = yield Wait(
                        lambda: target.invoke(prompt, config, most),
                        lambda: target.ainvoke(prompt, config, most),
                        None if math.isinf(timeout) else timeout,
                    )
            except GraphBubbleUp:
                raise  # an interrupt is not a failure
            except Exception as error:
                if is_stale(error) and stale < _MOST_STALE:
                    stale += 1  # not an attempt: only the connection failed
                    asked.record.attempts -= 1
                    continue
                failure = classify(error)
                if not failure.retryable or attempt == limits.max_retries:
                    if failure.kind == "network" and never_connected(error) and not self._has_answered(target.name):
                        failure.kind = "address"
                    asked.locate(failure, error, attempt + 1)
                    if failure is error:
                        raise
                    raise failure from error
                delay = self._delay(attempt, retry_after(error))
                attempt += 1
                asked.tell(failure, attempt, limits.max_retries, delay)
                yield sleep(delay)
            else:
                return reply

    def _has_answered(self, model: str) -> bool:
        return bool(self.ledger.used["by_model"].get(model, {}).get("calls"))

    def _delay(self, attempt: int, asked: float | None) -> float:
        # Full jitter, so that a refused batch is not retried all at once.
        delay: float = _FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        if asked is not None:
            delay = asked + random.uniform(0.0, 0.25)  # noqa: S311 - no secret
        left = self.ledger.seconds_left()
        return min(delay, _LONGEST_DELAY, max(0.0, left) if left is not None else _LONGEST_DELAY)
