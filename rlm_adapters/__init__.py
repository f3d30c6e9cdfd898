"""Recursive Language Models as a LangGraph state machine, a LangChain chat model and a DSPy module.

Names are loaded when they are first used: importing this package imports neither LangGraph nor DSPy, and a sandbox
worker can import `rlm_adapters.sandbox` without any of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_adapters.budget import Limits, ModelPrice
    from rlm_adapters.chat_model import ChatRLM, context_block
    from rlm_adapters.content import ContentRef, ContentStore
    from rlm_adapters.errors import InputError, ModelCallError, NoAnswerError, RLMError
    from rlm_adapters.events import Event
    from rlm_adapters.graph import create_rlm_graph
    from rlm_adapters.sandbox import Sandbox, SandboxLimits

__version__ = "0.1.0"

_HOMES = {
    "ChatRLM": "chat_model",
    "ContentRef": "content",
    "ContentStore": "content",
    "Event": "events",
    "InputError": "errors",
    "Limits": "budget",
    "ModelCallError": "errors",
    "ModelPrice": "budget",
    "NoAnswerError": "errors",
    "RLMError": "errors",
    "Sandbox": "sandbox",
    "SandboxLimits": "sandbox",
    "context_block": "chat_model",
    "create_rlm_graph": "graph",
}

__all__ = [
    "ChatRLM",
    "ContentRef",
    "ContentStore",
    "Event",
    "InputError",
    "Limits",
    "ModelCallError",
    "ModelPrice",
    "NoAnswerError",
    "RLMError",
    "Sandbox",
    "SandboxLimits",
    "context_block",
    "create_rlm_graph",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
