"""Hearing what a chat model writes while it writes it.

A call is made as ever, by ``invoke``; a handler among its callbacks has the model stream inside, where it can. The
reply is the same message, its usage included.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

from langchain_core.callbacks import BaseCallbackHandler, BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.runnables import RunnableConfig
from langchain_core.runnables.config import merge_configs

from rlm_adapters.errors import ModelCallError
from rlm_adapters.models.langchain_private import can_stream

_T = TypeVar("_T")


class Listener(BaseCallbackHandler):
    """Is told the text of one call as it comes.

    Args:
        begins: called when the model is asked; again at each retry, which begins anew.
        says: called with each piece of the reply's text, thoughts left out. Must be quick: it may be called on the
            event loop.
    """

    run_inline = True

    def __init__(self, begins: Callable[[], None], says: Callable[[str], None]) -> None:
        self._begins = begins
        self._says = says

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """The model is asked."""
        self._begins()

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """A piece has come; of a message in blocks its text."""
        message = getattr(chunk, "message", None)
        text = str(message.text) if message is not None else token
        if isinstance(text, str) and text:
            self._says(text)

    # LangChain streams inside of ``invoke`` where a handler has these two.

    def tap_output_iter(self, run_id: Any, output: Iterator[_T]) -> Iterator[_T]:  # noqa: ARG002
        """The output as it is."""
        return output

    def tap_output_aiter(self, run_id: Any, output: AsyncIterator[_T]) -> AsyncIterator[_T]:  # noqa: ARG002
        """The output as it is."""
        return output


def listened(config: RunnableConfig, listener: Listener) -> RunnableConfig:
    """The configuration of a call to which a listener listens."""
    return merge_configs(config, {"callbacks": [listener]})


def stream_options(model: BaseChatModel, config: RunnableConfig, *, is_async: bool) -> dict[str, Any]:
    """What a model needs to be told so that a reply that somebody listens to comes with its usage."""
    callbacks = config.get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or []
    if not any(isinstance(handler, Listener) for handler in handlers) or not can_stream(model, is_async=is_async):
        return {}
    # Beside a base URL of its own, ChatOpenAI streams without usage unless it is told to ask for it.
    return {"stream_usage": True} if "stream_usage" in type(model).model_fields else {}


def refuses_to_stream(error: ModelCallError) -> bool:
    """Whether a model's server refused a call because it was to be streamed, or to tell the usage of a stream."""
    return error.kind not in {"context_length", "refusal"} and not error.retryable and "stream" in error.detail.lower()


def can_be_heard(model: Any) -> bool:
    """Whether a model streams, and tells the usage of a streamed reply."""
    if not isinstance(model, BaseChatModel) or getattr(model, "stream_usage", None) is False:
        return False
    return can_stream(model, is_async=False) or can_stream(model, is_async=True)
