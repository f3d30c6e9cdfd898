"""Send messages with OpenAI's client without its walk over each part of each message.

Before a request, the client compares each part of each message with all types that it could have, in order to rename
keys and to read files. The messages that LangChain makes have neither. With 40 messages the walk takes three quarters
of the time of a call (15 of 20 ms), and it holds Python's lock: calls in parallel wait for each other. The client sends
the parts of ``extra_body`` as they are, so the messages go in there. The request is the same.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from pathlib import Path
from types import FunctionType
from typing import Any, TypeVar

from langchain_core.language_models import BaseChatModel

from rlm_adapters.models.langchain_private import with_payload

_Model = TypeVar("_Model", bound=BaseChatModel)

_MODELS = ("ChatOpenAI", "AzureChatOpenAI")


def unwalked(model: _Model) -> _Model:
    """A chat model for one call, whose client does not walk over the messages.

    Args:
        model: any chat model. It is not changed, and it is returned itself if it is not one of LangChain's own models
            for OpenAI, or if anybody replaced the client or its function: tracing packages do that, and read the
            messages there.
    """
    package = sys.modules.get("langchain_openai")
    if package is None or type(model) not in [getattr(package, name, None) for name in _MODELS]:
        return model
    clients = [vars(model).get(name) for name in ("client", "async_client")]
    if not all(client is None or _is_original(client) for client in clients):
        return model
    return with_payload(model, _moved)


def _moved(payload: dict[str, Any]) -> dict[str, Any]:
    """A request with its messages in ``extra_body``."""
    if "messages" not in payload:
        return payload
    return {
        **payload,
        "messages": [],
        "extra_body": {"messages": payload["messages"], **(payload.get("extra_body") or {})},
    }


def _is_original(client: Any) -> bool:
    """Whether a client's resource is of the package ``openai``, with the functions that it has there."""
    sender = vars(client).get("_client")
    if sender is None or "create" in vars(client) or {"request", "post"} & vars(sender).keys():
        return False
    functions = (getattr(type(sender), name, None) for name in ("request", "post"))
    return _are_of_openai(vars(type(client)).get("create"), *functions)


@lru_cache(maxsize=16)
def _are_of_openai(*functions: Any) -> bool:
    home = getattr(sys.modules.get("openai"), "__file__", None)
    return home is not None and all(
        type(one) is FunctionType and Path(home).parent in Path(one.__code__.co_filename).parents for one in functions
    )
