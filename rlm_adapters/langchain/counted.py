"""Let each handler count each token once: at the chat model's call or at the inner calls.

Some handlers add up the usage of every ``on_llm_end`` (`get_usage_metadata_callback`, ``get_openai_callback``,
tracers). They see the inner models with their names and tokens. With the sum at the chat model's call they would count
everything twice. So for them this call ends without usage. A handler that sees no inner calls gets the sum. The message
for the caller always has it.
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
    """For handlers that see the inner runs, end the run of a chat model without usage.

    Args:
        run: of the chat model.
        traced: whether handlers can see inner runs.
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
    """A function that removes the usage of a chunk after the caller has read it.

    In a stream, LangChain ends the run itself, with its copies of the chunks. The caller gets the usage with the chunk.
    When the stream continues, LangChain's copy of the chunk loses the usage.
    """
    if run is None or not _seeing(run, traced=traced):
        return lambda _: None
    return _forget_usage


def _seeing(run: Manager, *, traced: bool) -> list[BaseCallbackHandler]:
    """Handlers of a run that also see its inner runs: inherited handlers, and those that every run has."""
    if not traced:
        return []
    elsewhere = [*run.inheritable_handlers, *ambient_handlers()]
    return [one for one in run.handlers if not taps_tokens(one) and any(_same(one, other) for other in elsewhere)]


def _same(one: BaseCallbackHandler, other: BaseCallbackHandler) -> bool:
    # LangChain passes on a copy of its tracer, which writes the same trace.
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
