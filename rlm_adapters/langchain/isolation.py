"""Run the graph without the configuration of the Runnable that called the chat model.

LangChain passes the configuration of a Runnable to everything below it through a context variable. With it the graph
inside a chat model would get a recursion limit of 25 steps and the parent graph's checkpointer and namespace, and the
tokens of the inner models would be in the caller's streams. So the graph runs without it. Only the callbacks of the
caller are passed on, as parents of the graph's run.
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
    """Run this block without the configuration of the enclosing Runnable.

    A generator must not yield to its caller inside the block, because the caller would run with this configuration.

    Args:
        traced: False: also without handlers that the environment or a context variable adds to every run, such as
            LangSmith's tracer and the handler of `get_usage_metadata_callback`.
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
    """Callbacks for the graph, so that its runs are nested under the chat model's run; None: no callbacks.

    Handlers that stream tokens to a caller (``astream_events``, LangGraph's ``messages`` mode) are left out. The caller
    wants the tokens of this model, and the tokens of the inner models are not part of its answer.
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
    """Information about the caller of the chat model, for tools inside the loop.

    Args:
        config: of the call; in a LangGraph node it has the runtime of this node.
        messages: of the call: the part of the state that a chat model knows.
    """
    runtime = runtime_of(config)
    context = None if runtime is None else runtime.context
    if isinstance(context, RLMContext):
        context = context.caller.context
    return Caller({"messages": list(messages)}, context, config, runtime)


def adopted(
    manager: CallbackManager | AsyncCallbackManager, run_id: UUID, config: RunnableConfig
) -> CallbackManagerForLLMRun | AsyncCallbackManagerForLLMRun:
    """The run manager of a run with a known id.

    LangChain's ``stream`` calls ``_stream`` without a run manager, although it has opened the run.

    Args:
        manager: of the caller.
        run_id: of the run.
        config: of the call. Its tags and metadata are passed to inner runs.
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
