"""Recursive Language Models as a LangGraph state machine, a LangChain chat model and a DSPy module.

Names are loaded when they are first used: importing this package imports neither LangGraph nor DSPy, and a sandbox
worker can import `rlm_adapters.sandbox` without any of them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rlm_adapters.cluster.sandbox import RaySandbox
    from rlm_adapters.datasets.cluster.batches import AskRows
    from rlm_adapters.datasets.cluster.engine import RayEngine
    from rlm_adapters.datasets.cluster.job import RayJob
    from rlm_adapters.datasets.cluster.program import RayProgram
    from rlm_adapters.datasets.mapping import amap_rows, map_rows
    from rlm_adapters.datasets.result import MapResult
    from rlm_adapters.dspy.chat_bridge import ChatDSPy
    from rlm_adapters.dspy.feedback import gepa_metric
    from rlm_adapters.dspy.interpreter import RestrictedPythonInterpreter
    from rlm_adapters.dspy.lm_bridge import lm_from_chat_model
    from rlm_adapters.dspy.module import RLM
    from rlm_adapters.errors import (
        InputError,
        LeaseLostError,
        ModelCallError,
        NoAnswerError,
        OutputError,
        RLMError,
        ThreadBusyError,
    )
    from rlm_adapters.events import Event
    from rlm_adapters.graph import RLMOptions, create_rlm_graph
    from rlm_adapters.graph.approval import ApprovalRequest, Decision
    from rlm_adapters.langchain.chat_model import ChatRLM, context_block
    from rlm_adapters.models.limits import Limits
    from rlm_adapters.models.prices import ModelPrice
    from rlm_adapters.sandbox import Sandbox, SandboxLimits
    from rlm_adapters.traces.notebook import NotebookView
    from rlm_adapters.traces.trajectory import Trajectory
    from rlm_adapters.traces.writer import TraceWriter
    from rlm_adapters.values.content import ContentStore
    from rlm_adapters.values.refs import ContentRef
    from rlm_adapters.values.urls import URL

__version__ = "0.1.0"

_HOMES = {
    "RLM": "dspy.module",
    "URL": "values.urls",
    "ApprovalRequest": "graph.approval",
    "RayJob": "datasets.cluster.job",
    "RayProgram": "datasets.cluster.program",
    "AskRows": "datasets.cluster.batches",
    "ChatDSPy": "dspy.chat_bridge",
    "ChatRLM": "langchain.chat_model",
    "ContentRef": "values.refs",
    "ContentStore": "values.content",
    "Decision": "graph.approval",
    "Event": "events",
    "InputError": "errors",
    "LeaseLostError": "errors",
    "Limits": "models.limits",
    "MapResult": "datasets.result",
    "ModelCallError": "errors",
    "ModelPrice": "models.prices",
    "NoAnswerError": "errors",
    "NotebookView": "traces.notebook",
    "OutputError": "errors",
    "RLMError": "errors",
    "ThreadBusyError": "errors",
    "RLMOptions": "graph",
    "RayEngine": "datasets.cluster.engine",
    "RaySandbox": "cluster.sandbox",
    "RestrictedPythonInterpreter": "dspy.interpreter",
    "Sandbox": "sandbox",
    "SandboxLimits": "sandbox",
    "TraceWriter": "traces.writer",
    "Trajectory": "traces.trajectory",
    "amap_rows": "datasets.mapping",
    "context_block": "langchain.chat_model",
    "create_rlm_graph": "graph",
    "gepa_metric": "dspy.feedback",
    "lm_from_chat_model": "dspy.lm_bridge",
    "map_rows": "datasets.mapping",
}

__all__ = [
    "RLM",
    "URL",
    "ApprovalRequest",
    "AskRows",
    "ChatDSPy",
    "ChatRLM",
    "ContentRef",
    "ContentStore",
    "Decision",
    "Event",
    "InputError",
    "LeaseLostError",
    "Limits",
    "MapResult",
    "ModelCallError",
    "ModelPrice",
    "NoAnswerError",
    "NotebookView",
    "OutputError",
    "RLMError",
    "RLMOptions",
    "RayEngine",
    "RayJob",
    "RayProgram",
    "RaySandbox",
    "RestrictedPythonInterpreter",
    "Sandbox",
    "SandboxLimits",
    "ThreadBusyError",
    "TraceWriter",
    "Trajectory",
    "amap_rows",
    "context_block",
    "create_rlm_graph",
    "gepa_metric",
    "lm_from_chat_model",
    "map_rows",
]


if not TYPE_CHECKING:  # otherwise a type checker would not report unknown names

    def __getattr__(name: str) -> Any:
        home = _HOMES.get(name)
        if home is None:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(import_module(f"{__name__}.{home}"), name)
        except ModuleNotFoundError as error:
            if error.name is None or error.name.partition(".")[0] != "dspy":
                raise
            return _stand_in(name)


def _stand_in(name: str) -> Any:
    """A class for a name whose extra is not installed. Using it raises an error that says what to install.

    ``from rlm_adapters import *``, ``hasattr`` and ``help`` do not use it, so they work without any extra.
    """
    from rlm_adapters.errors import MissingExtraError  # noqa: PLC0415 - kept light

    message = f"rlm_adapters.{name} needs DSPy: pip install 'rlm-adapters[dspy]'"

    class Missing(type):
        def __call__(cls, *_: Any, **__: Any) -> Any:
            raise MissingExtraError(message)

        def __getattr__(cls, attribute: str) -> Any:
            if attribute.startswith("__"):
                raise AttributeError(attribute)
            raise AttributeError(message)

    return Missing(name, (), {"__doc__": message, "__module__": __name__})


def __dir__() -> list[str]:
    return sorted(__all__)
