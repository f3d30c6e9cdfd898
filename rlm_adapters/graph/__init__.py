"""The RLM as a LangGraph state machine."""

from rlm_adapters.graph.build import compile_graph, create_rlm_graph
from rlm_adapters.graph.compiled import RLMGraph
from rlm_adapters.graph.context import RLMConfig, RLMContext
from rlm_adapters.graph.options import RLMOptions
from rlm_adapters.graph.state import FinishReason, RLMInput, RLMOutput

__all__ = [
    "FinishReason",
    "RLMConfig",
    "RLMContext",
    "RLMGraph",
    "RLMInput",
    "RLMOptions",
    "RLMOutput",
    "compile_graph",
    "create_rlm_graph",
]
