"""Listen to a chat model while it writes a reply.

The call is an ordinary ``invoke``. A handler among its callbacks makes the model stream internally, if it can. The
reply is the same message, with usage.
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
    """Gets the text of one reply while it is written.

    Args:
        begins: called when the model is called, and at each retry, when the reply starts again.
        says: called with each piece of the reply's text, without thoughts. It must be quick, because it may be called
            on the event loop.
    """

    run_inline = True

    def __init__(self, begins: Callable[[], None], says: Callable[[str], None]) -> None:
        self._begins = begins
        self._says = says

    def on_chat_model_start(self, serialized: Any, messages: Any, **kwargs: Any) -> None:  # noqa: ARG002
        """The model is called."""
        self._begins()

    def on_llm_new_token(self, token: Any, *, chunk: Any = None, **kwargs: Any) -> None:  # noqa: ARG002
        """A piece of the reply. If the message has blocks, the text of them."""
        message = getattr(chunk, "message", None)
        text = str(message.text) if message is not None else token
        if isinstance(text, str) and text:
            self._says(text)

    # LangChain streams inside ``invoke`` if a handler has these two methods.

    def tap_output_iter(self, run_id: Any, output: Iterator[_T]) -> Iterator[_T]:  # noqa: ARG002
        """The unchanged output."""
        return output

    def tap_output_aiter(self, run_id: Any, output: AsyncIterator[_T]) -> AsyncIterator[_T]:  # noqa: ARG002
        """The unchanged output."""
        return output


def listened(config: RunnableConfig, listener: Listener) -> RunnableConfig:
    """The config of a call with a listener."""
    return merge_configs(config, {"callbacks": [listener]})


def stream_options(model: BaseChatModel, config: RunnableConfig, *, is_async: bool) -> dict[str, Any]:
    """Options for a model, so that a streamed reply has its usage."""
    callbacks = config.get("callbacks")
    handlers = callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or []
    if not any(isinstance(handler, Listener) for handler in handlers) or not can_stream(model, is_async=is_async):
        return {}
    # With a custom base URL, ChatOpenAI streams without usage unless this option is set.
    return {"stream_usage": True} if "stream_usage" in type(model).model_fields else {}


def refuses_to_stream(error: ModelCallError) -> bool:
    """Whether a model's server refused a call because of streaming, or because of usage in a stream."""
    return error.kind not in {"context_length", "refusal"} and not error.retryable and "stream" in error.detail.lower()


def can_be_heard(model: Any) -> bool:
    """Whether a model can stream, and reports the usage of a streamed reply."""
    if not isinstance(model, BaseChatModel) or getattr(model, "stream_usage", None) is False:
        return False
    return can_stream(model, is_async=False) or can_stream(model, is_async=True)
