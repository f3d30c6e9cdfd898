"""Make the message, or the stream of chunks, of a chat model from the result of a run."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.language_models.chat_models import generate_from_stream
from langchain_core.messages import AIMessage, AIMessageChunk
from langchain_core.messages.ai import UsageMetadata
from langchain_core.messages.tool import tool_call_chunk
from langchain_core.outputs import ChatGenerationChunk, ChatResult

from rlm_adapters.langchain.schema import AnswerSchema, as_text
from rlm_adapters.models.usage import Usage, usage_metadata

PROVIDER = "rlm"

_PIECES = 200  # most chunks of one answer
_PIECE_CHARS = 24  # smallest chunk, about one or two tokens


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """The result of a call of the chat model.

    Attributes:
        answer: answer of the run; None if the run waits for tools.
        message: message of the inner model after a direct call.
        tool_calls: tool calls that the run waits for.
        finish_reason: of the run, or ``tool_calls``.
        usage: usage of this call. If the run was resumed, its earlier usage was reported by the earlier call.
        iterations: iterations of the root LM.
        run_id: the engine's id of the run.
        error: the limit that ended the run.
        updates: changes that tools inside the loop make in the caller's state.
        trajectory: of the call, if the caller wants it.
    """

    answer: Any = None
    message: AIMessage | None = None
    tool_calls: tuple[Mapping[str, Any], ...] = ()
    finish_reason: str
    usage: Usage = field(default_factory=dict)
    iterations: int = 0
    run_id: str = ""
    error: str | None = None
    updates: Mapping[str, Any] = field(default_factory=dict)
    trajectory: Mapping[str, Any] | None = None


def to_message(outcome: Outcome, *, model_name: str, schema: AnswerSchema | None, stop: list[str] | None) -> AIMessage:
    """The message of an outcome."""
    metadata = response_metadata(outcome, model_name)
    usage = usage_metadata(outcome.usage)
    if outcome.message is not None:
        inner = outcome.message
        return AIMessage(
            inner.content,
            id=inner.id,
            additional_kwargs=kept_kwargs(inner.additional_kwargs),
            tool_calls=inner.tool_calls,
            invalid_tool_calls=inner.invalid_tool_calls,
            usage_metadata=inner.usage_metadata or usage,
            response_metadata={**metadata, **kept_metadata(inner.response_metadata)},
        )
    calls: list[Any] = [dict(call) for call in outcome.tool_calls]
    if calls:
        return AIMessage("", tool_calls=calls, usage_metadata=usage, response_metadata=metadata)
    if schema is not None and schema.as_tool:
        arguments = outcome.answer if isinstance(outcome.answer, Mapping) else {"value": outcome.answer}
        call = {"name": schema.name, "args": dict(arguments), "id": f"rlm_{uuid.uuid4().hex}", "type": "tool_call"}
        return AIMessage("", tool_calls=[call], usage_metadata=usage, response_metadata=metadata)
    text = as_text(outcome.answer)
    if schema is None:
        text = before_stop(text, stop)
    return AIMessage(text, usage_metadata=usage, response_metadata=metadata)


def kept_metadata(metadata: Mapping[str, Any]) -> dict[str, Any]:
    """The parts of the inner model's metadata that a direct answer keeps: it may have been cut off or filtered."""
    reason = metadata.get("finish_reason") or metadata.get("stop_reason") or metadata.get("done_reason")
    kept = {"inner_finish_reason": reason} if reason else {}
    return {**kept, **{key: metadata[key] for key in ("output_version",) if key in metadata}}


def kept_kwargs(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """What a provider returns beside the content, such as a refusal, without tool calls in the provider's form."""
    return {key: value for key, value in kwargs.items() if key not in ("tool_calls", "function_call")}


def before_stop(text: str, stop: list[str] | None) -> str:
    """The answer up to the first stop sequence.

    Stop sequences apply to the answer that the caller sees. In cells they would cut code.
    """
    for sequence in stop or ():
        if sequence:
            text = text.split(sequence, 1)[0]
    return text


def response_metadata(outcome: Outcome, model_name: str) -> dict[str, Any]:
    """The metadata of a message about its run."""
    usage = outcome.usage
    metadata = {
        "model_name": model_name,
        "model_provider": PROVIDER,
        "finish_reason": outcome.finish_reason,
        "iterations": outcome.iterations,
        "calls": usage.get("calls", 0),
        "cost": usage.get("cost", 0),
        "run_id": outcome.run_id,
        "usage_by_model": usage.get("by_model", {}),
    }
    if outcome.error is not None:
        metadata["error"] = outcome.error
    if outcome.updates:
        metadata["updates"] = dict(outcome.updates)
    if outcome.trajectory is not None:
        metadata["trajectory"] = dict(outcome.trajectory)
    return metadata


def to_chunks(message: AIMessage) -> Iterator[ChatGenerationChunk]:
    """A message as a stream: its text or tool calls in pieces, then a chunk with usage and metadata."""
    for index, call in enumerate(message.tool_calls):
        piece = tool_call_chunk(
            name=call["name"], args=json.dumps(call["args"], ensure_ascii=False), id=call["id"], index=index
        )
        yield ChatGenerationChunk(message=AIMessageChunk(content="", tool_call_chunks=[piece]))
    text = str(message.text)
    size = max(_PIECE_CHARS, -(-len(text) // _PIECES))
    for start in range(0, len(text), size):
        yield ChatGenerationChunk(message=AIMessageChunk(content=text[start : start + size]))
    yield last_chunk(message.usage_metadata, message.response_metadata)


class ToldChunks:
    """Gives chunks the form of LangChain's ``stream``: with the id of the message, and as content blocks if requested.

    Args:
        message_id: id of the message.
        as_blocks: whether content is given as blocks (``output_version="v1"``).
    """

    def __init__(self, message_id: str, *, as_blocks: bool) -> None:
        self.chunks: list[ChatGenerationChunk] = []
        """The chunks so far."""
        self._message_id = message_id
        self._as_blocks = as_blocks
        self._index = -1
        self._kind = ""

    def add(self, chunk: ChatGenerationChunk) -> ChatGenerationChunk:
        """The chunk in this form."""
        chunk.message.id = chunk.message.id or self._message_id
        if self._as_blocks:
            blocks: list[Any] = [dict(block) for block in chunk.message.content_blocks]
            for block in blocks:
                if block["type"] != self._kind:
                    self._index, self._kind = self._index + 1, block["type"]
                block.setdefault("index", self._index)
            chunk.message.content = blocks
        self.chunks.append(chunk)
        return chunk

    def result(self) -> ChatResult:
        """The whole message."""
        return generate_from_stream(iter(self.chunks))


def last_chunk(usage: UsageMetadata | None, metadata: Mapping[str, Any]) -> ChatGenerationChunk:
    """The last chunk of a stream."""
    return ChatGenerationChunk(
        message=AIMessageChunk(
            content="", usage_metadata=usage, response_metadata=dict(metadata), chunk_position="last"
        )
    )
