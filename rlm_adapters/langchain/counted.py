"""Each token once: who is told the usage of a chat model's call, and who reads it at the calls inside.

Handlers that add up what every ``on_llm_end`` tells (`get_usage_metadata_callback`, ``get_openai_callback``, tracers)
see the inner models, with their names, their tokens and what these were. Told the sum as well, they would count all
twice. So for them the call of the chat model itself ends without usage. A handler that sees no inner call is told the
sum, and the message that the caller gets has it in any case.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any, TypeAlias

from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, BaseCallbackHandler, CallbackManagerForLLMRun
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from langchain_core.tracers import LangChainTracer

from rlm_adapters.models.langchain_private import ambient_handlers, taps_tokens

Manager: TypeAlias = CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun


def tell_once(run: Manager, *, traced: bool) -> None:
    """Let the run of a chat model end without usage for handlers that see its inner runs.

    Args:
        run: of the chat model.
        traced: whether handlers see inner runs at all.
    """
    seeing = _seeing(run, traced=traced)
    if not seeing or "on_llm_end" in vars(run):
        return
    told, others = copy.copy(run), copy.copy(run)
    told.handlers = seeing
    others.handlers = [one for one in run.handlers if one not in seeing]

    def end(response: LLMResult, **kwargs: Any) -> None:
        told.on_llm_end(_without_usage(response), **kwargs)
        others.on_llm_end(response, **kwargs)

    async def aend(response: LLMResult, **kwargs: Any) -> None:
        await told.on_llm_end(_without_usage(response), **kwargs)  # type: ignore[misc] # async here
        await others.on_llm_end(response, **kwargs)  # type: ignore[misc]

    is_async = isinstance(run, AsyncCallbackManagerForLLMRun)
    run.on_llm_end = aend if is_async else end  # type: ignore[method-assign] # of this one run


def forget_once_read(run: Manager | None, *, traced: bool) -> Callable[[ChatGenerationChunk], None]:
    """What is done to a chunk of a stream that was read, where LangChain ends the run itself, from its chunks.

    Whoever reads the stream gets the usage. When the stream goes on, the caller has its message, and LangChain's copy
    of the chunk loses it.
    """
    if run is None or not _seeing(run, traced=traced):
        return lambda _: None
    return _forget_usage


def _seeing(run: Manager, *, traced: bool) -> list[BaseCallbackHandler]:
    """Handlers of a run that see its inner runs too: those that are handed on, and those that every run has."""
    if not traced:
        return []
    elsewhere = [*run.inheritable_handlers, *ambient_handlers()]
    return [one for one in run.handlers if not taps_tokens(one) and any(_same(one, other) for other in elsewhere)]


def _same(one: BaseCallbackHandler, other: BaseCallbackHandler) -> bool:
    # LangChain hands on a copy of its own tracer, which keeps the same trace.
    return one is other or (isinstance(one, LangChainTracer) and isinstance(other, LangChainTracer))


def _without_usage(response: LLMResult) -> LLMResult:
    generations = [[_bare(one) for one in several] for several in response.generations]
    return response.model_copy(update={"generations": generations})


def _bare(generation: Any) -> Any:
    if not isinstance(generation, ChatGeneration):
        return generation
    return generation.model_copy(update={"message": generation.message.model_copy(update={"usage_metadata": None})})


def _forget_usage(chunk: ChatGenerationChunk) -> None:
    if getattr(chunk.message, "usage_metadata", None):
        chunk.message = chunk.message.model_copy(update={"usage_metadata": None})
