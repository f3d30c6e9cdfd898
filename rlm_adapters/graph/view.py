"""From the state to what a code writer sees."""

from __future__ import annotations

from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.state import RLMState
from rlm_adapters.prompts import InputInfo, Trajectory, Turn

_CHARS_PER_TOKEN = 3  # the same cautious estimate as rlm_adapters.models.budget.estimate_tokens


def trajectory_of(state: RLMState, node: NodeContext, *, iteration: int) -> Trajectory:
    """The trajectory for the prompt of the given iteration."""
    store, config, limits = node.config.store, node.config, node.config.limits
    window = config.sub.context_window()
    return Trajectory(
        query=store.unpack(state["query"]),
        instructions="\n".join(part for part in (config.instructions, state.get("instructions", "")) if part),
        inputs=tuple(InputInfo(**info) for info in state["described"]),
        files=state["file_sizes"],
        tools=tuple(tool.info() for tool in config.tools.values()),
        output=config.output.describe(),
        turns=tuple(
            Turn(store.unpack(turn["reply"]), store.unpack(turn["observation"])) for turn in state.get("turns") or ()
        ),
        folded=state.get("folded") or 0,
        iteration=iteration,
        max_iterations=limits.max_iterations,
        budget=limits.describe(sub_calls=node.may_call),
        balance=node.run.ledger.balance().describe(sub_calls=node.may_call),
        max_output_chars=limits.max_output_chars,
        sub_calls=node.may_call,
        children=node.may_recurse,
        sub_window=window * _CHARS_PER_TOKEN if window else None,
        models=tuple(config.models),
    )
