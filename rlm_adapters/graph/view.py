"""From the state to what a code writer sees."""

from __future__ import annotations

import json
from typing import Any

from rlm_adapters.effects import Steps
from rlm_adapters.errors import InputError
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.state import RLMState
from rlm_adapters.models.tokens import CHARS_PER_TOKEN
from rlm_adapters.prompts import InputInfo, Trajectory, Turn


def _described(state: RLMState) -> list[dict[str, Any]]:
    described = state["described"]
    if not isinstance(described, bytes):
        raise InputError("the state's 'described' was edited: leave it as it is, the graph describes the inputs itself")
    return list(json.loads(described))


def load_trajectory(state: RLMState, node: NodeContext) -> Steps[None]:
    """Load what `trajectory_of` reads."""
    yield from node.content.load(state["query"], state.get("turns"))


def trajectory_of(state: RLMState, node: NodeContext, *, iteration: int) -> Trajectory:
    """The trajectory for the prompt of the given iteration; `load_trajectory` comes first."""
    read, config, limits = node.content.read, node.config, node.config.limits
    window = config.sub.context_window()
    return Trajectory(
        query=read(state["query"]),
        instructions="\n".join(part for part in (config.instructions, state.get("instructions", "")) if part),
        inputs=tuple(InputInfo(**info) for info in _described(state)),
        files=state["file_sizes"],
        tools=tuple(tool.info() for tool in config.tools.values()),
        output=config.output.describe(),
        turns=tuple(Turn(read(turn["reply"]), read(turn["observation"])) for turn in state.get("turns") or ()),
        folded=state.get("folded") or 0,
        iteration=iteration,
        max_iterations=limits.max_iterations,
        budget=limits.describe(sub_calls=node.may_call),
        balance=node.run.ledger.balance().describe(sub_calls=node.may_call),
        max_output_chars=limits.max_output_chars,
        sub_calls=node.may_call,
        children=node.may_recurse,
        sub_window=window * CHARS_PER_TOKEN if window else None,
        models=tuple(config.models),
    )
