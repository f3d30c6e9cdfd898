"""The RLM graph as LangGraph's server and Studio serve it (see ``langgraph.json``).

The models come from the environment: ``RLM_MODEL`` and ``RLM_SUB_MODEL`` as ``provider:name``; an OpenAI-compatible
server through ``OPENAI_BASE_URL``.
"""

import os

from langchain.chat_models import init_chat_model
from langchain_core.language_models import BaseChatModel

from rlm_adapters import create_rlm_graph
from rlm_adapters.graph import RLMGraph


def _model(variable: str, default: str) -> BaseChatModel:
    model: BaseChatModel = init_chat_model(os.environ.get(variable, default))
    return model


def make_graph() -> RLMGraph:
    """Make the graph; the server brings its own checkpointer."""
    root = os.environ.get("RLM_MODEL", "openai:gpt-5-mini")
    return create_rlm_graph(_model("RLM_MODEL", root), _model("RLM_SUB_MODEL", root))
