"""Calling models: a budgeted and limited call with classified errors and retries.

Everything that the engine asks of a model goes through `ModelCaller.call`, whoever asks: the root LM, a sub-call at
any depth, the extraction of a last answer.
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
    """When a call was made and what it took, filled in while it is made; a call that is asked again adds up.

    Attributes:
        model: the name of who was asked.
        start: when the first attempt left, in seconds since the epoch; None: it has not left.
        attempts: how many left.
        input_tokens: of the replies.
        output_tokens: likewise.
        cached_tokens: of the input tokens, those that the provider had in its cache.
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
        """For an event about the call's end."""
        tokens = {"input": self.input_tokens, "output": self.output_tokens, "cached": self.cached_tokens}
        begun = {"start": self.start} if self.start is not None else {}
        return {"model": self.model, **begun, "attempts": self.attempts, "tokens": tokens, "cost": self.cost}


@dataclass(frozen=True, slots=True)
class Retry:
    """A call that failed and is made again.

    Attributes:
        model: its name.
        role: ``root LM`` or ``sub-LM``.
        kind: of the failure, as in `ModelCallError`.
        detail: what the model's server said.
        attempt: number of the retry, from 1.
        most: retries that are made at most.
        seconds: until it is made.
    """

    model: str
    role: str
    kind: str
    detail: str
    attempt: int
    most: int
    seconds: float

    def told(self) -> dict[str, Any]:
        """The data of the event about it."""
        message = (
            f"{self.role} {self.model!r} failed ({self.kind}): {self.detail}; "
            f"retry {self.attempt} of {self.most} in {self.seconds:.1f} s"
        )
        return {"message": message, "retry": asdict(self)}


_FIRST_DELAY = 0.5  # seconds before the first retry; doubled for each further one
_LONGEST_DELAY = 60.0
_MOST_STALE = 1_000  # connections of a pool; httpx keeps 100, openai's client 1,000


_ROLES = {"root": "root LM", "sub": "sub-LM", "extract": "root LM"}


@dataclass(frozen=True, slots=True)
class _Asked:
    """Who is asked, and as what."""

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
    """Calls models within one run: budget, limiter, time-out and retries.

    Args:
        ledger: of the run tree.
        limiter: of the run tree.
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
        """Ask a model once, retrying what can be retried.

        Args:
            target: the model.
            prompt: in the target's form.
            kind: for the ledger.
            owner: id of the run that asks, for fairness.
            config: passed on, so that tracing nests.
            role: for messages; default: by the kind.
            on_retry: told of each retry before the wait for it.
            record: where to note when the call was made and what it took.

        Returns:
            The reply and the usage of this call.

        Raises:
            BudgetExceededError: the call does not fit into the limits of the run.
            ModelCallError: it failed for good.
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
        """A place to call; every limit is looked at when it is there, not when it was asked for.

        Raises:
            BudgetExceededError: the run's time is over.
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
                raise  # an interrupt is no failure
            except Exception as error:
                if is_stale(error) and stale < _MOST_STALE:
                    stale += 1  # no attempt: it was a connection's fault
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
        # Full jitter keeps a batch that was refused together from coming back together.
        delay: float = _FIRST_DELAY * 2**attempt * random.uniform(0.5, 1.0)  # noqa: S311 - no secret
        if asked is not None:
            delay = asked + random.uniform(0.0, 0.25)  # noqa: S311 - no secret
        left = self.ledger.seconds_left()
        return min(delay, _LONGEST_DELAY, max(0.0, left) if left is not None else _LONGEST_DELAY)
