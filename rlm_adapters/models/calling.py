"""Calling models: one reply type, classified errors, retries, a budgeted and limited call.

Everything that the engine asks of a model goes through `ModelCaller.call`, whoever asks: the root LM, a sub-call at
any depth, the extraction of a last answer.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol, TypeAlias

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs
from langgraph.errors import GraphBubbleUp

from rlm_adapters.effects import Steps, Wait, off_loop, sleep, wait_for_future
from rlm_adapters.errors import BudgetExceededError, ModelCallError
from rlm_adapters.models.budget import CallKind, Ledger, Reservation
from rlm_adapters.models.failures import address_of, classify, locate
from rlm_adapters.models.langchain_private import type_of_model
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.prices import load_prices, prices_are_loaded
from rlm_adapters.models.provider_errors import is_stale, never_connected, retry_after
from rlm_adapters.models.tokens import estimate_tokens
from rlm_adapters.models.usage import Usage, details_of

Prompt: TypeAlias = Sequence[BaseMessage]

NOSTREAM = "nostream"
"""LangGraph's tag for models whose tokens stay out of the caller's ``messages`` stream."""

HEARD = "rlm:root"
"""Tag of calls of the root LM whose tokens go into that stream."""

_CUT_OFF = frozenset({"length", "max_tokens", "max_output_tokens", "MAX_TOKENS", "model_context_window_exceeded"})
_FILTERED = frozenset({"content_filter", "refusal", "SAFETY", "safety", "PROHIBITED_CONTENT", "guardrail_intervened"})


@dataclass(frozen=True, slots=True)
class ModelReply:
    """A reply of a model, whatever the provider.

    Attributes:
        text: its text, reasoning left out.
        finish_reason: ``stop``, ``length``, ``content_filter``, or what the provider says.
        refusal: the provider's refusal text, None if it did not refuse.
        input_tokens: as the provider counts, else estimated.
        output_tokens: likewise.
        details: what these tokens were; see `rlm_adapters.models.usage.DETAILS`.
        tool_calls: name and args of tool calls that the model made unasked.
    """

    text: str
    finish_reason: str = "stop"
    refusal: str | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    details: Mapping[str, int] = field(default_factory=dict)
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    extra: Mapping[str, Any] = field(default_factory=dict)

    @property
    def cached_tokens(self) -> int:
        """Of the input tokens, those that the provider had in its cache."""
        return self.details.get("cache_read_tokens", 0)


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


class ModelTarget(Protocol):
    """Something that answers a prompt: a LangChain chat model, or a DSPy predictor in the DSPy adapter."""

    @property
    def name(self) -> str:
        """How it is called in usage figures."""
        ...

    def estimate(self, prompt: Any) -> int:
        """Upper estimate of the prompt's tokens."""
        ...

    def invoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model; whatever it raises is classified by `classify`."""
        ...

    async def ainvoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Async form of `invoke`."""
        ...


class SubModel(ModelTarget, Protocol):
    """A `ModelTarget` for ``llm_query``: its prompts are messages."""

    def context_window(self) -> int | None:
        """Input tokens that the model takes; None if unknown."""
        ...


class ChatTarget:
    """A LangChain chat model as a `ModelTarget`.

    Args:
        model: any chat model.
        name: how it is called in usage figures; default: the model's own name.
        options: keyword arguments of every call (``temperature``, ``seed``, ...).
    """

    def __init__(self, model: BaseChatModel, name: str | None = None, options: Mapping[str, Any] | None = None) -> None:
        self.model = model
        self.options = dict(options or {})
        self.name = name or self.options.get("model") or model_name(model)

    @property
    def address(self) -> str | None:
        """The base URL that the model was given; None: its provider's own."""
        return address_of(self.model)

    def estimate(self, prompt: Prompt) -> int:
        """Upper estimate of the prompt's tokens, 8 for each message's frame."""
        return sum(estimate_tokens(_visible_text(message)) + 8 for message in prompt)

    def invoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model."""
        message = self.model.invoke(list(prompt), quiet(config), **self._options(max_tokens))
        return self._read(prompt, message)

    async def ainvoke(self, prompt: Prompt, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        """Call the model."""
        message = await self.model.ainvoke(list(prompt), quiet(config), **self._options(max_tokens))
        return self._read(prompt, message)

    def context_window(self) -> int | None:
        """Input tokens that the model takes, where its LangChain profile tells."""
        profile = getattr(self.model, "profile", None) or {}
        window = profile.get("max_input_tokens") if isinstance(profile, Mapping) else None
        return int(window) if window else None

    def _options(self, max_tokens: int | None) -> dict[str, Any]:
        kind = getattr(self.model, "_llm_type", "")
        key = {"chat-ollama": "num_predict", "chat-google-generative-ai": "max_output_tokens"}.get(kind, "max_tokens")
        options = {key if name == "max_tokens" else name: value for name, value in self.options.items()}
        if max_tokens is None:
            return options
        own = options.get(key) or getattr(self.model, key, None)
        return {**options, key: min(max_tokens, own) if isinstance(own, int) and own > 0 else max_tokens}

    def _read(self, prompt: Prompt, message: BaseMessage) -> ModelReply:
        text = str(message.text)
        usage: Mapping[str, Any] = (message.usage_metadata if isinstance(message, AIMessage) else None) or {}
        meta = message.response_metadata
        reason = str(
            meta.get("finish_reason")
            or meta.get("stop_reason")
            or meta.get("done_reason")
            or meta.get("finishReason")
            or "stop"
        )
        reason = "length" if reason in _CUT_OFF else "content_filter" if reason in _FILTERED else reason
        return ModelReply(
            text=text,
            finish_reason=reason,
            refusal=message.additional_kwargs.get("refusal"),
            input_tokens=usage.get("input_tokens") or self.estimate(prompt),
            output_tokens=usage.get("output_tokens") or (estimate_tokens(text) if text else 0),
            details=details_of(usage),
            tool_calls=tuple(message.tool_calls) if isinstance(message, AIMessage) else (),
        )


def model_name(model: BaseChatModel) -> str:
    """The name by which a provider knows the model."""
    for attribute in ("model_name", "model", "model_id", "deployment_name"):
        value = getattr(model, attribute, None)
        if isinstance(value, str) and value:
            return value
    return type_of_model(model)


def as_prompt(prompt: str | Sequence[str | Mapping[str, Any]]) -> Prompt:
    """A cell's prompt (text, or a list of texts and content blocks such as images) as messages."""
    if isinstance(prompt, str):
        return [HumanMessage(prompt)]
    return [HumanMessage([{"type": "text", "text": item} if isinstance(item, str) else dict(item) for item in prompt])]


def _visible_text(message: BaseMessage) -> str:
    content = message.content
    if isinstance(content, str):
        return content
    return "\n".join(block if isinstance(block, str) else str(block.get("text", "")) for block in content)


def quiet(config: RunnableConfig) -> RunnableConfig:
    """The configuration with the tag that keeps tokens out of the caller's stream, unless it is of `heard`."""
    tags = config.get("tags") or ()
    return config if NOSTREAM in tags or HEARD in tags else merge_configs(config, {"tags": [NOSTREAM]})


def heard(config: RunnableConfig) -> RunnableConfig:
    """The configuration of a call whose tokens go into the caller's stream, if nothing above it forbids that."""
    return merge_configs(config, {"tags": [HEARD]})


# ------------------------------------------------------------------------------------------------ calls

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
                    stale += 1  # no attempt: nothing was sent
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
