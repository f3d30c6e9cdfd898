"""All names of langchain-core and langchain-openai that this package uses but that are not public.

Each entry of `PRIVATE` says what breaks without the name. `tests/test_private_names.py` checks that they exist. Checked
with langchain-core 1.8.3 and langchain-openai 1.7.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

from langchain_core.language_models import BaseChatModel
from langchain_core.tools import BaseTool
from langchain_core.tracers._streaming import _StreamingCallbackHandler, _V2StreamingCallbackHandler
from langchain_core.tracers.context import _configure_hooks

from rlm_adapters.models.private_names import PrivateName

M = TypeVar("M", bound=BaseChatModel)

_STREAMING: Final = "langchain_core.tracers._streaming"
_MODEL: Final = "langchain_core.language_models.chat_models:BaseChatModel"
_TAPS: Final = "tokens of inner models get into the caller's stream of a ChatRLM"

PRIVATE: Final = (
    PrivateName(_STREAMING, "_StreamingCallbackHandler", _TAPS),
    PrivateName(_STREAMING, "_V2StreamingCallbackHandler", _TAPS),
    PrivateName(_MODEL, "_should_stream", "runs inside a ChatRLM lose their parent when a token stream is tapped"),
    PrivateName(_MODEL, "_get_invocation_params", "whole contexts get into traces of a ChatRLM"),
    PrivateName(_MODEL, "_get_llm_string", "a cache takes calls of a ChatRLM with other contexts for the same"),
    PrivateName(_MODEL, "_resolve_model_profile", "a ChatRLM has no profile: middleware cannot size its prompts"),
    PrivateName(_MODEL, "_get_ls_params", "LangSmith does not know the provider of a ChatRLM"),
    PrivateName(_MODEL, "_identifying_params", "a cache takes calls of ChatRLMs with other inner models for the same"),
    PrivateName(_MODEL, "_llm_type", "models without a name attribute have none in usage figures"),
    PrivateName(
        "langchain_core.tracers.context",
        "_configure_hooks",
        "ChatRLM(trace_inner=False) shows its inner calls to get_usage_metadata_callback, which counts them twice",
    ),
    PrivateName(
        "langchain_openai.chat_models.base:BaseChatOpenAI",
        "_get_request_payload",
        "OpenAI's client walks over all messages: calls with long conversations take several times the CPU",
    ),
    PrivateName(_MODEL, "_serialized", "each call of a model of OpenAI takes a millisecond longer"),
    PrivateName("langchain_core.tools:BaseTool", "_run", "injected arguments of tools that are classes are not found"),
)


def taps_tokens(handler: Any) -> bool:
    """Whether a callback handler streams tokens to a caller."""
    return isinstance(handler, _StreamingCallbackHandler | _V2StreamingCallbackHandler)


def can_stream(model: BaseChatModel, *, is_async: bool) -> bool:
    """Whether a chat model can stream, and streaming is not switched off."""
    return bool(model._should_stream(async_api=is_async, stream=True))  # noqa: SLF001 - see PRIVATE


def ambient_handlers() -> list[Any]:
    """Callback handlers that a context variable adds to every run, such as `get_usage_metadata_callback`."""
    return [handler for variable, *_ in _configure_hooks if (handler := variable.get()) is not None]


@contextmanager
def without_ambient_handlers() -> Iterator[None]:
    """Run this block without `ambient_handlers`."""
    tokens = [(variable, variable.set(None)) for variable, *_ in _configure_hooks]
    try:
        yield
    finally:
        for variable, token in tokens:
            variable.reset(token)


def type_of_model(model: BaseChatModel) -> str:
    """LangChain's name of a chat model's class."""
    return str(model._llm_type)  # noqa: SLF001 - see PRIVATE


def identity_of_model(model: BaseChatModel) -> dict[str, Any]:
    """Everything that the answers of a chat model depend on, for caches."""
    return {**model._identifying_params, "_type": model._llm_type}  # noqa: SLF001 - see PRIVATE


def body_of_tool(tool: BaseTool) -> Callable[..., Any]:
    """The function of a tool."""
    function: Callable[..., Any] = getattr(tool, "func", None) or getattr(tool, "coroutine", None) or tool._run  # noqa: SLF001 - see PRIVATE
    return function


def with_payload(model: M, change: Callable[[dict[str, Any]], dict[str, Any]]) -> M:
    """A copy of a chat model of langchain-openai that changes the request before its client gets it."""
    made: Callable[..., dict[str, Any]] | None = getattr(model, "_get_request_payload", None)
    if made is None:
        return model
    getattr(model, "_serialized", None)  # takes a millisecond; LangChain keeps it in the model, and so in all copies
    copied = model.model_copy()

    def payload(*args: Any, **kwargs: Any) -> dict[str, Any]:
        return change(made(*args, **kwargs))  # of the model, not of its copy: nothing refers to itself

    vars(copied)["_get_request_payload"] = payload  # a field would have to be declared in a subclass
    return copied
