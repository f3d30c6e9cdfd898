"""The RLM graph as LangGraph's server and Studio serve it (see ``langgraph.json``).

From the environment: the models ``RLM_MODEL`` and ``RLM_SUB_MODEL`` as ``provider:name``; an OpenAI-compatible server
through ``OPENAI_BASE_URL``; ``RLM_MODELS``, further models that an assistant may choose by name
(``fast=openai:gpt-5-mini,strong=openai:gpt-5``); and ``RLM_CONTENT_STORE``, a directory or an fsspec URL for what no
checkpoint takes. Without the last one threads cannot go on after a restart of the server.
"""

import asyncio
import os
import threading

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from rlm_adapters import ContentStore, create_rlm_graph
from rlm_adapters.graph import RLMGraph


def _model(variable: str, default: str) -> BaseChatModel:
    model: BaseChatModel = init_chat_model(os.environ.get(variable, default))
    return model


def _offered(text: str) -> dict[str, BaseChatModel]:
    """Read models from ``name=provider:model, name=provider:model``."""
    pairs = [entry.partition("=") for entry in text.split(",") if entry.strip()]
    return {name.strip(): init_chat_model(model.strip()) for name, _, model in pairs}


class _Deployment:
    """One graph for all requests of a process. They share its sandbox, its live sessions and its content store."""

    def __init__(self) -> None:
        self._graph: RLMGraph | None = None
        self._lock = threading.Lock()

    def graph(self) -> RLMGraph:
        with self._lock:
            if self._graph is None:
                root = os.environ.get("RLM_MODEL", "openai:gpt-5-mini")
                self._graph = create_rlm_graph(
                    _model("RLM_MODEL", root),
                    _model("RLM_SUB_MODEL", root),
                    models=_offered(os.environ.get("RLM_MODELS", "")),
                    store=ContentStore(os.environ.get("RLM_CONTENT_STORE") or None),
                )
            return self._graph


_deployment = _Deployment()


async def make_graph() -> RLMGraph:
    """The graph. The server adds its checkpointer. Not made on the event loop: model clients read files."""
    return await asyncio.to_thread(_deployment.graph)
