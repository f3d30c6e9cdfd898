"""From the state to what a code writer sees."""

from __future__ import annotations

from rlm_adapters.budget import Limits
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.state import RLMState
from rlm_adapters.prompts import InputInfo, Trajectory, Turn

_CHARS_PER_TOKEN = 3  # the same cautious estimate as rlm_adapters.budget.estimate_tokens


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
        budget=describe_limits(limits, sub_calls=node.may_call),
        balance=describe_balance(node),
        max_output_chars=limits.max_output_chars,
        sub_calls=node.may_call,
        children=node.may_recurse,
        sub_window=window * _CHARS_PER_TOKEN if window else None,
        models=tuple(config.models),
    )


def describe_limits(limits: Limits, *, sub_calls: bool) -> str:
    """The limits of the tree in words, the same from turn to turn."""
    parts = []
    if limits.max_calls is not None and sub_calls:
        parts.append(f"{limits.max_calls:,} sub-calls")
    if limits.max_tokens is not None:
        parts.append(f"{limits.max_tokens:,} tokens")
    if limits.max_cost is not None:
        parts.append(f"${limits.max_cost:g}")
    if limits.max_seconds is not None:
        parts.append(f"{limits.max_seconds:g} seconds")
    return ", ".join(parts)


def describe_balance(node: NodeContext) -> str:
    """What is left of them."""
    balance = node.run.ledger.balance()
    return balance.describe(sub_calls=node.may_call)
