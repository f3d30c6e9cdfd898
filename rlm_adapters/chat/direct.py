"""The router: a short question goes straight to the inner model, as it is.

An RLM costs several model calls, and papers and replications find it no better than one plain call where the input
fits well. The inner model gets the very messages and tools of the caller, so a short chat or an agent's small talk is
what it would be without us.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage
from langchain_core.messages.ai import UsageMetadata, add_usage
from langchain_core.outputs import ChatGenerationChunk
from langchain_core.runnables import Runnable, RunnableConfig

from rlm_adapters.answers import InvalidAnswerError
from rlm_adapters.budget import PriceTable, Usage
from rlm_adapters.chat.answer import Outcome, last_chunk, response_metadata, usage_metadata
from rlm_adapters.chat.conversation import gives_context, text_size
from rlm_adapters.chat.schema import AnswerSchema
from rlm_adapters.effects import Steps
from rlm_adapters.graph import RLMConfig
from rlm_adapters.graph.context import Run
from rlm_adapters.models import ChatTarget, ModelReply, classify


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
        schema: what the answer must be.
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
        """The inner model with what is bound to it."""
        options: dict[str, Any] = dict(self.target.options)
        if self.stop:
            options["stop"] = list(self.stop)
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


def is_short(messages: Sequence[BaseMessage], below: int) -> bool:
    """Whether all of the messages together are short enough for one call, and bring no variables."""
    return below > 0 and text_size(messages) < below and not gives_context(messages)


def ask_directly(call: DirectCall, config: RLMConfig, runnable_config: RunnableConfig) -> Steps[Outcome | None]:
    """Ask the inner model, within the limits of a run.

    Returns:
        None when its answer does not fit the schema (a run can mend that).

    Raises:
        ModelCallError: the call failed for good.
        BudgetExceededError: it does not fit into the limits.
    """
    run = Run(config)
    target = _MessageTarget(call)
    reply, usage = yield from run.caller.call(
        target, list(call.messages), kind="root", owner="direct", config=runnable_config
    )
    message: AIMessage = reply.extra["message"]
    if call.schema is None:
        return Outcome(message=_in_standard_form(message), finish_reason="direct", usage=usage)
    answer = _checked(message, call.schema)
    return None if answer is None else Outcome(answer=answer, finish_reason="direct", usage=usage)


def _in_standard_form(message: AIMessage) -> AIMessage:
    """The inner model's message without what only its provider's name explains."""
    if isinstance(message.content, str):
        return message
    blocks: Any = [block for block in message.content_blocks if block["type"] != "tool_call"]
    return message.model_copy(update={"content": blocks, "response_metadata": {"output_version": "v1"}})


def stream_directly(call: DirectCall, config: RunnableConfig, model_name: str) -> Iterator[ChatGenerationChunk]:
    """Stream the inner model's tokens as our own."""
    end = _StreamEnd(call)
    try:
        for chunk in call.model().stream(list(call.messages), config):
            yield end.passed_on(chunk)
    except Exception as error:
        raise classify(error) from error
    yield end.chunk(model_name)


async def astream_directly(
    call: DirectCall, config: RunnableConfig, model_name: str
) -> AsyncIterator[ChatGenerationChunk]:
    """Async form of `stream_directly`."""
    end = _StreamEnd(call)
    try:
        async for chunk in call.model().astream(list(call.messages), config):
            yield end.passed_on(chunk)
    except Exception as error:
        raise classify(error) from error
    yield end.chunk(model_name)


class _MessageTarget(ChatTarget):
    """Asks with the caller's tools and keeps the whole message."""

    def __init__(self, call: DirectCall) -> None:
        super().__init__(call.target.model, call.target.name, call.target.options)
        self._bound = call.model()

    def invoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        message = self._bound.invoke(prompt, config, **self._options(max_tokens))
        return replace(self._read(prompt, message), extra={"message": message})

    async def ainvoke(self, prompt: Any, config: RunnableConfig, max_tokens: int | None) -> ModelReply:
        message = await self._bound.ainvoke(prompt, config, **self._options(max_tokens))
        return replace(self._read(prompt, message), extra={"message": message})


@dataclass(slots=True)
class _StreamEnd:
    """Collects what the last chunk tells."""

    call: DirectCall
    usage: UsageMetadata | None = None
    chars: int = 0
    metadata: dict[str, Any] = field(default_factory=dict)

    def passed_on(self, chunk: Any) -> ChatGenerationChunk:
        """A chunk of the inner model, its usage and metadata kept for the end."""
        content: Any = chunk.content
        if not isinstance(content, str):
            content = [dict(block) for block in chunk.content_blocks if block["type"] != "tool_call_chunk"]
            self.metadata["output_version"] = "v1"
        if chunk.usage_metadata:
            self.usage = add_usage(self.usage, chunk.usage_metadata)
        self.chars += len(str(chunk.text))
        return ChatGenerationChunk(
            message=AIMessageChunk(content=content, tool_call_chunks=getattr(chunk, "tool_call_chunks", []))
        )

    def chunk(self, model_name: str) -> ChatGenerationChunk:
        """The last chunk."""
        estimate = {"input_tokens": self.call.target.estimate(self.call.messages), "output_tokens": self.chars // 3 + 1}
        tokens = self.usage or usage_metadata(estimate)
        counts = tokens["input_tokens"], tokens["output_tokens"]
        price = self.call.prices.find(self.call.target.name)
        cost = price.cost(*counts) if price else 0.0
        figures = {"input_tokens": counts[0], "output_tokens": counts[1], "cost": cost}
        usage: Usage = {**figures, "by_model": {self.call.target.name: {"calls": 1, **figures}}}
        outcome = Outcome(finish_reason="direct", usage=usage)
        return last_chunk(tokens, {**response_metadata(outcome, model_name), **self.metadata})


def _checked(message: AIMessage, schema: AnswerSchema) -> Any:
    """The validated answer; None when it does not fit."""
    for call in message.tool_calls:
        if call["name"] == schema.name:
            try:
                return schema.spec.to_json(schema.spec.validate(call["args"]))
            except InvalidAnswerError:
                return None
    return None
