"""All names of LangGraph that this package uses but that are not public.

Each entry of `PRIVATE` says what breaks without the name. `tests/test_private_names.py` checks that they exist. Checked
with langgraph 1.2.22.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from langchain_core.runnables import RunnableConfig

from rlm_adapters.models.private_names import PrivateName

CHECKPOINTER_KEY: Final = "__pregel_checkpointer"
"""Key of ``config["configurable"]``: the checkpointer of the graph around this one."""

TASK_KEY: Final = "__pregel_task_id"
"""Key of ``config["configurable"]``: the node of the graph around this one."""

DURABILITY_KEY: Final = "__pregel_durability"
"""Key of ``config["configurable"]``: when the graph around this one saves."""

RUNTIME_KEY: Final = "__pregel_runtime"
"""Key of ``config["configurable"]``: the `langgraph.runtime.Runtime` of the node."""

INTERRUPT_WRITE: Final = "__interrupt__"
"""Channel of a saved write: the interrupt of a task."""

RESUME_WRITE: Final = "__resume__"
"""Channel of a saved write: the answer to the interrupt of a task."""

_INTERNAL: Final = "__"
"""Prefix of names under ``configurable`` that belong to LangGraph, or that are not traced."""


_CONSTANTS: Final = "langgraph._internal._constants"

PRIVATE: Final = (
    PrivateName(
        _CONSTANTS,
        "CONFIG_KEY_CHECKPOINTER",
        "content of a run inside a checkpointed graph goes at the run's end, and its calls are not saved one by one",
        CHECKPOINTER_KEY,
    ),
    PrivateName(
        _CONSTANTS,
        "CONFIG_KEY_DURABILITY",
        "a graph inside one with durability='exit' that is killed while it saves begins with an empty checkpoint",
        DURABILITY_KEY,
    ),
    PrivateName(
        _CONSTANTS,
        "CONFIG_KEY_RUNTIME",
        "tools inside the loop see no store, no context and no stream writer of the caller",
        RUNTIME_KEY,
    ),
    PrivateName(
        _CONSTANTS,
        "CONFIG_KEY_TASK_ID",
        "a graph that is a node refuses the other keys of the larger graph's state",
        TASK_KEY,
    ),
    PrivateName(
        _CONSTANTS,
        "INTERRUPT",
        "a ChatRLM run that was killed in the moment after its tools had answered begins again",
        INTERRUPT_WRITE,
    ),
    PrivateName(
        _CONSTANTS,
        "RESUME",
        "a ChatRLM run that was killed in the moment after its tools had answered takes other results for the same",
        RESUME_WRITE,
    ),
    *(
        PrivateName(
            f"langgraph.checkpoint.postgres{module}",
            "_cursor",
            "a process that wakes after another one has taken its thread over may write a step more to it",
        )
        for module in (":PostgresSaver", ".aio:AsyncPostgresSaver")
    ),
)


def saver_around(config: RunnableConfig) -> Any:
    """The checkpointer of this graph's run, or of the graph around it; None if nothing is saved."""
    return (config.get("configurable") or {}).get(CHECKPOINTER_KEY)


def is_inside(config: RunnableConfig) -> bool:
    """Whether the graph that is called with this config is a node of another one."""
    return TASK_KEY in (config.get("configurable") or {})


def runtime_of(config: RunnableConfig) -> Any:
    """The runtime of the node with this config; None outside a graph."""
    return (config.get("configurable") or {}).get(RUNTIME_KEY)


def with_runtime(config: RunnableConfig, runtime: Any) -> RunnableConfig:
    """The config of a node with another runtime, for its calls."""
    return {**config, "configurable": {**(config.get("configurable") or {}), RUNTIME_KEY: runtime}}


def own_keys(config: RunnableConfig) -> dict[str, Any]:
    """The user's keys under ``configurable``, without LangGraph's keys and those of the saved position."""
    given = config.get("configurable") or {}
    position = ("thread_id", "checkpoint_id", "checkpoint_ns", "checkpoint_map")
    return {key: value for key, value in given.items() if not key.startswith(_INTERNAL) and key not in position}


def saves_at_exit(config: RunnableConfig, asked: Mapping[str, Any]) -> bool:
    """Whether a call saves only when it ends.

    Args:
        config: of the call.
        asked: its other arguments.
    """
    given = asked.get("durability") or (config.get("configurable") or {}).get(DURABILITY_KEY)
    return given == "exit" or (given is None and asked.get("checkpoint_during") is False)
