"""Running the graph apart from the Runnable that called the chat model.

LangChain hands the configuration of an enclosing Runnable to everything below it through a context variable. Inside a
chat model that would give the graph a recursion limit of 25 steps, the parent graph's checkpointer and namespace, and
put the tokens of the inner models into the caller's streams. So the graph runs without it; the callbacks of the caller
come back explicitly, as parents of the graph's run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from langchain_core.callbacks import (
    AsyncCallbackManager,
    AsyncCallbackManagerForLLMRun,
    BaseCallbackManager,
    CallbackManager,
    CallbackManagerForLLMRun,
)
from langchain_core.messages import BaseMessage
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import var_child_runnable_config
from langgraph.config import get_stream_writer
from langsmith.run_helpers import tracing_context

from rlm_adapters.graph.context import RLMContext
from rlm_adapters.graph.injection import Caller
from rlm_adapters.graph.langgraph_private import runtime_of
from rlm_adapters.models.langchain_private import taps_tokens, without_ambient_handlers
from rlm_adapters.models.targets import NOSTREAM


@contextmanager
def apart(*, traced: bool = True) -> Iterator[None]:
    """Leave the enclosing Runnable's configuration out of what is called in this block.

    A generator must not yield to its own caller from within: the caller would run with our configuration.

    Args:
        traced: False keeps out what the environment or a context variable adds to every run as well: LangSmith's
            tracer, handlers such as that of `get_usage_metadata_callback`.
    """
    token = var_child_runnable_config.set(None)
    try:
        if traced:
            yield
        else:
            with tracing_context(enabled=False), without_ambient_handlers():
                yield
    finally:
        var_child_runnable_config.reset(token)


def child_callbacks(
    run: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun | None, *, traced: bool
) -> BaseCallbackManager | None:
    """Callbacks for the graph, so that its runs nest under the chat model's run; None: no callbacks.

    Handlers that tap the token stream for a caller (``astream_events``, LangGraph's ``messages`` mode) stay out: the
    caller asked for the tokens of this model, and those of the inner models are no part of its answer.
    """
    if run is None or not traced:
        return None
    kind = AsyncCallbackManager if isinstance(run, AsyncCallbackManagerForLLMRun) else CallbackManager
    manager = kind(handlers=[], parent_run_id=run.run_id)
    manager.set_handlers([one for one in run.inheritable_handlers if not taps_tokens(one)])
    manager.add_tags([*run.inheritable_tags, NOSTREAM])
    manager.add_metadata(run.inheritable_metadata)
    return manager


def ambient_writer() -> Callable[[Any], None] | None:
    """Writer of the ``custom`` stream of the LangGraph node that called the chat model, if one did."""
    try:
        return get_stream_writer()
    except (RuntimeError, KeyError, TypeError, AttributeError):
        return None


def caller_of(config: RunnableConfig, messages: Sequence[BaseMessage]) -> Caller:
    """What the tools inside the loop are told of whoever called the chat model.

    Args:
        config: of the call; in a LangGraph node it has that node's runtime.
        messages: of the call: the state, as far as a chat model knows it.
    """
    runtime = runtime_of(config)
    context = None if runtime is None else runtime.context
    if isinstance(context, RLMContext):
        context = context.caller.context
    return Caller({"messages": list(messages)}, context, config, runtime)


def adopted(
    manager: CallbackManager | AsyncCallbackManager, run_id: UUID, config: RunnableConfig
) -> CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun:
    """The run manager of a run whose id is known beforehand.

    LangChain's ``stream`` calls ``_stream`` without one, though it has opened the run.

    Args:
        manager: of the caller.
        run_id: of the run.
        config: of the call, whose tags and metadata go on to inner runs.
    """
    kind: Any = AsyncCallbackManagerForLLMRun if isinstance(manager, AsyncCallbackManager) else CallbackManagerForLLMRun
    made: CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun = kind(
        run_id=run_id,
        handlers=manager.handlers,
        inheritable_handlers=manager.inheritable_handlers,
        parent_run_id=manager.parent_run_id,
        tags=manager.tags,
        inheritable_tags=[*manager.inheritable_tags, *(config.get("tags") or ())],
        metadata=manager.metadata,
        inheritable_metadata={**manager.inheritable_metadata, **(config.get("metadata") or {})},
    )
    return made
