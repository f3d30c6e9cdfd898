"""Send a short question directly to the inner model.

An RLM makes several model calls. For a short input, papers and replications find it no better than one plain call. The
inner model gets the messages and tools of the caller unchanged, so a short chat works as without this package.
"""

from __future__ import annotations

import contextlib
import math
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, SystemMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable, RunnableConfig

from rlm_adapters.effects import Item, Steps, Wait
from rlm_adapters.errors import BudgetExceededError, ModelCallError, NoAnswerError
from rlm_adapters.events import Event
from rlm_adapters.graph.context import Run
from rlm_adapters.langchain.answer import (
    Outcome,
    kept_kwargs,
    kept_metadata,
    last_chunk,
    response_metadata,
)
from rlm_adapters.langchain.conversation import gives_context, text_size
from rlm_adapters.langchain.direct_events import DirectRun
from rlm_adapters.langchain.schema import AnswerSchema
from rlm_adapters.models.failures import classify
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.shown import text_of
from rlm_adapters.models.targets import ChatTarget, ModelReply
from rlm_adapters.models.tokens import CHARS_PER_TOKEN
from rlm_adapters.models.usage import Usage, details_of, usage_metadata
from rlm_adapters.traces.trajectory import Trajectory
from rlm_adapters.values.answers import InvalidAnswerError

DIRECT_BELOW: Final = 2**14 * CHARS_PER_TOKEN
"""Characters, about 2^14 tokens. In the paper (arXiv 2512.24601, inputs of 2^13 to 2^18 tokens), for shorter inputs a
plain call is as good as an RLM or better, with a fraction of the calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectCall:
    """One plain call of the inner model.

    Attributes:
        target: the inner model.
        messages: of the caller.
        prices: of the models.
        tools: in OpenAI's form.
        tool_choice: as the caller gave it.
        parallel: None or the caller's ``parallel_tool_calls``.
        schema: schema of the answer.
        stop: stop sequences.
    """

    target: ChatTarget
    messages: Sequence[BaseMessage]
    prices: PriceTable
    tools: Sequence[Mapping[str, Any]] = ()
    tool_choice: Any = None
    parallel: bool | None = None
    schema: AnswerSchema | None = None
    stop: Sequence[str] = ()

    def model(self) -> Runnable[Any, AIMessage]:
        """The inner model with everything that is bound to it, without the options of the target."""
        options: dict[str, Any] = {"stop": list(self.stop)} if self.stop else {}
        model: BaseChatModel = self.target.model
        if self.schema is not None:
            return model.bind_tools([self.schema.tool], tool_choice=self.schema.name, **options)
        if self.tools:
            if self.tool_choice is not None:
                options["tool_choice"] = self.tool_choice
            if self.parallel is not None:
                options["parallel_tool_calls"] = self.parallel
            return model.bind_tools([dict(tool) for tool in self.tools], **options)
        return model.bind(**options) if options else model


def is_short(messages: Sequence[BaseMessage], below: int, window: int | None) -> bool:
    """Whether all messages together are short enough for one call, and have no variables.

    Args:
        messages: of the caller.
        below: limit in characters.
        window: input tokens of the model; None if unknown. Some servers cut a long prompt and do not say so.
    """
    if window is not None:
        below = min(below, window * CHARS_PER_TOKEN // 2)
    return 0 < text_size(messages) < below and not gives_context(messages)


def with_instructions(messages: Sequence[BaseMessage], instructions: str) -> Sequence[BaseMessage]:
    """The messages with the instructions at the start: in the first system message, if there is one."""
    if not instructions.strip():
        return messages
    if messages and isinstance(messages[0], SystemMessage) and isinstance(messages[0].content, str):
        joined = f"{instructions}\n\n{messages[0].content}"
        return [messages[0].model_copy(update={"content": joined}), *messages[1:]]
    return [SystemMessage(instructions), *messages]


def ask_directly(call: DirectCall, run: Run, runnable_config: RunnableConfig) -> Steps[Outcome | None]:
    """Ask the inner model, within the limits of a run and with its retries.

    Returns:
        None if a run must answer: the answer does not fit the schema, or the messages do not fit into the window.

    Raises:
        ModelCallError: the call failed for good.
        NoAnswerError: it does not fit into the limits.
    """
    told = DirectRun(run, call.target, call.messages)
    yield from told.start()
    reply = yield from _called(_MessageTarget(call), call, run, runnable_config, told)
    if reply is None:
        return None
    message: AIMessage = reply.extra["message"]
    usage = run.ledger.used
    if call.schema is None:
        yield from told.end(_as_told(message), "direct")
        return Outcome(message=_in_standard_form(message), finish_reason="direct", usage=usage)
    answer = _checked(message, call.schema)
    if answer is None:
        yield from told.end(_as_told(message), "error", "the answer does not fit the schema: a run has to answer")
        return None
    yield from told.end(_as_told(message), "direct")
    return Outcome(answer=answer, finish_reason="direct", usage=usage)


def _called(
    target: ChatTarget, call: DirectCall, run: Run, runnable_config: RunnableConfig, told: DirectRun
) -> Steps[ModelReply | None]:
    """One call within the limits, with retries; None if the messages do not fit into the model's window."""
    try:
        reply, _ = yield from run.caller.call(
            target,
            list(call.messages),
            kind="root",
            owner="direct",
            config=runnable_config,
            on_retry=told.retried,
            record=told.record,
        )
    except BudgetExceededError as error:
        reason = "timeout" if error.limit == "max_seconds" else "budget"
        yield from told.end("", reason, str(error))
        raise NoAnswerError(f"the limits allow no call ({reason}): {error}", finish_reason=reason) from error
    except ModelCallError as error:
        yield from told.end("", "error", str(error))
        if error.kind != "context_length":
            raise
        return None
    return reply


def _in_standard_form(message: AIMessage) -> AIMessage:
    """The inner model's message without parts that depend on the provider."""
    if isinstance(message.content, str):
        return message
    blocks: Any = [block for block in message.content_blocks if block["type"] != "tool_call"]
    metadata = {**message.response_metadata, "output_version": "v1"}
    return message.model_copy(update={"content": blocks, "response_metadata": metadata})


class DirectStream:
    """The stream of a direct call.

    Up to the first token, budget, rate limits, time-out and retries work as for any call. Later tokens are already with
    the caller, so a later failure is raised.

    Args:
        call: the call.
        run: the run with the limits.
        config: of the inner model's run.
        model_name: name of the chat model, for the last chunk.
        events: collects the events for the trajectory in the last chunk; None: no trajectory.
    """

    def __init__(
        self,
        call: DirectCall,
        run: Run,
        config: RunnableConfig,
        model_name: str,
        events: list[Event] | None = None,
    ) -> None:
        self._events = events
        self.run = run
        self._call = call
        self._config = config
        self._model_name = model_name
        self._stream: Any = None
        self._first: list[Any] = []
        self._usage: UsageMetadata | None = None
        self._chars = 0
        self._metadata: dict[str, Any] = {}
        self._started = 0.0
        self._told = DirectRun(run, call.target, call.messages)
        self._text: list[str] = []

    def open(self) -> Steps[bool]:
        """Make the call, and wait for the first token.

        Returns:
            False if the messages do not fit into the model's window.

        Raises:
            ModelCallError: the call failed for good.
            NoAnswerError: it does not fit into the limits.
        """
        yield from self._told.start()
        reply = yield from _called(_StreamTarget(self._call), self._call, self.run, self._config, self._told)
        if reply is None:
            return False
        self._stream, self._first, self._started = (reply.extra[key] for key in ("stream", "first", "started"))
        return True

    def chunks(self) -> Generator[Wait | Item[ChatGenerationChunk], Any, None]:
        """The chunks, and a last chunk with usage and metadata.

        Raises:
            ModelCallError: the stream broke off.
        """
        try:
            more = True
            while more:
                chunk, more = yield from self._read()
                yield Item(chunk)
        finally:
            yield Wait(self._close, self._aclose)

    # -- parts

    def _close(self) -> None:
        with contextlib.suppress(ValueError):  # an abandoned thread is still in the generator
            self._stream.close()

    async def _aclose(self) -> None:
        await self._stream.aclose()

    def _read(self) -> Steps[tuple[ChatGenerationChunk, bool]]:
        """The next chunk, and whether there may be more."""
        reason, error, chunk = "direct", None, None
        if self._first:
            chunk = self._first.pop(0)
        else:
            try:
                chunk = yield Wait(
                    lambda: next(self._stream, None), lambda: anext(self._stream, None), self._seconds_left()
                )
            except TimeoutError as late:
                left = self.run.ledger.seconds_left()
                if left is None or left > 0:
                    seconds = self.run.ledger.limits.call_timeout
                    problem = f"the answer took more than {seconds:g} s"
                    yield from self._told.end("".join(self._text), "error", problem)
                    raise ModelCallError(problem, kind="timeout") from late
                reason, error = "timeout", "max_seconds was reached in the middle of the answer"
            except Exception as broken:
                yield from self._told.end("".join(self._text), "error", f"the stream broke off: {broken}")
                raise classify(broken) from broken
        if chunk is None:
            last = self._end(reason, error)
            yield from self._told.end("".join(self._text), reason, error)
            if self._events is not None:
                last.message.response_metadata["trajectory"] = Trajectory.from_events(self._events).to_dict()
            return last, False
        return self._passed_on(chunk), True

    def _seconds_left(self) -> float | None:
        """Seconds until the call's time-out or the run's time limit; None: no limit."""
        left = self._started + self.run.ledger.limits.call_timeout - time.monotonic()
        of_run = self.run.ledger.seconds_left()
        least = left if of_run is None else min(left, of_run)
        return None if math.isinf(least) else least

    def _passed_on(self, chunk: Any) -> ChatGenerationChunk:
        """A chunk of the inner model for the caller. Its usage and metadata are kept for the last chunk."""
        content: Any = chunk.content
        if not isinstance(content, str):
            content = [dict(block) for block in chunk.content_blocks if block["type"] != "tool_call_chunk"]
            self._metadata["output_version"] = "v1"
        if chunk.usage_metadata:
            self._usage = add_usage(self._usage, chunk.usage_metadata)
        self._metadata |= kept_metadata(chunk.response_metadata)
        self._chars += len(str(chunk.text))
        if self._told.is_heard:
            self._text.append(str(chunk.text))
        return ChatGenerationChunk(
            message=AIMessageChunk(
                content=content,
                tool_call_chunks=getattr(chunk, "tool_call_chunks", []),
                additional_kwargs=kept_kwargs(chunk.additional_kwargs),
            )
        )

    def _end(self, reason: str, error: str | None) -> ChatGenerationChunk:
        """Add the usage to the ledger, and return the last chunk."""
        target = self._call.target
        estimate = {"input_tokens": target.estimate(self._call.messages), "output_tokens": self._chars // 3 + 1}
        tokens = self._usage or usage_metadata(estimate)
        figures = self._figures(tokens)
        self.run.ledger.book(figures)
        self._told.record.answered(_counted(tokens), figures["cost"])
        outcome = Outcome(finish_reason=reason, usage=self.run.ledger.used, error=error)
        return last_chunk(tokens, {**response_metadata(outcome, self._model_name), **self._metadata})

    def _figures(self, tokens: UsageMetadata) -> Usage:
        """Usage of the tokens only. The call was counted at its first token."""
        name = self._call.target.name
        spent = {"input_tokens": tokens["input_tokens"], "output_tokens": tokens["output_tokens"]}
        counts = {**spent, **details_of(tokens), "cost": self._call.prices.cost(name, *spent.values())}
        return {**counts, "by_model": {name: counts}}


class _MessageTarget(ChatTarget):
    """Calls the model with the caller's tools and keeps the whole message."""

    def __init__(self, call: DirectCall) -> None:
        super().__init__(call.target.model, call.target.name, call.target.options)
        self._bound = call.model()

    def invoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        message = self._bound.invoke(prompt, config, **self._options(max_tokens))
        return replace(self.read(prompt, message), extra={"message": message})

    async def ainvoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        self.enter_loop()
        message = await self._bound.ainvoke(prompt, config, **self._options(max_tokens))
        return replace(self.read(prompt, message), extra={"message": message})


class _StreamTarget(_MessageTarget):
    """Calls the model up to the first token. The reply has the stream, and no token counts yet."""

    def invoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        started = time.monotonic()
        stream = self._bound.stream(prompt, config, **self._options(max_tokens))
        first: list[Any] = []
        while not first or _is_empty(first[-1]):
            first.append(next(stream, None))
        return ModelReply("", extra={"stream": stream, "first": first, "started": started})

    async def ainvoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        self.enter_loop()
        started = time.monotonic()
        stream: Any = self._bound.astream(prompt, config, **self._options(max_tokens))
        first: list[Any] = []
        while not first or _is_empty(first[-1]):
            first.append(await anext(stream, None))
        return ModelReply("", extra={"stream": stream, "first": first, "started": started})


def _as_told(message: AIMessage) -> str:
    """A reply for the events: its text or its tool calls."""
    calls = [{"name": call["name"], "args": call["args"]} for call in message.tool_calls]
    return str(message.text) or (text_of(calls) if calls else "")


def _counted(usage: UsageMetadata) -> ModelReply:
    """A reply with the token counts of a stream."""
    return ModelReply(
        "", input_tokens=usage["input_tokens"], output_tokens=usage["output_tokens"], details=details_of(usage)
    )


def _is_empty(chunk: Any) -> bool:
    """Whether a chunk has no content, such as the first chunk of most providers. The end (None) is not empty."""
    return chunk is not None and not (chunk.content or chunk.tool_call_chunks or chunk.additional_kwargs)


def _checked(message: AIMessage, schema: AnswerSchema) -> Any:
    """The validated answer; None if it does not fit."""
    for call in message.tool_calls:
        if call["name"] == schema.name:
            try:
                return schema.spec.to_json(schema.spec.validate(call["args"]))
            except InvalidAnswerError:
                return None
    return None
