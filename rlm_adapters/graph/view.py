"""From the state to what a code writer sees."""

from __future__ import annotations

from rlm_adapters.effects import Steps
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.memory import described, earlier, told
from rlm_adapters.graph.state import RLMState
from rlm_adapters.models.tokens import CHARS_PER_TOKEN
from rlm_adapters.prompts import Trajectory, Turn


def load_trajectory(state: RLMState, node: NodeContext) -> Steps[None]:
    """Load what `trajectory_of` reads."""
    before = [[one["query"], one.get("answer")] for one in told(state["questions"])]
    yield from node.content.load(state["query"], state.get("turns"), before)


def trajectory_of(state: RLMState, node: NodeContext, *, iteration: int) -> Trajectory:
    """The trajectory for the prompt of the given iteration; `load_trajectory` comes first."""
    read, config, limits = node.content.read, node.config, node.config.limits
    window = config.sub.context_window()
    questions = state["questions"]
    before = len(questions) > 1
    return Trajectory(
        query=read(state["query"]),
        instructions="\n".join(part for part in (config.instructions, state.get("instructions", "")) if part),
        inputs=described(questions),
        earlier=earlier(questions, node.content),
        forgotten=max(0, len(questions) - 1 - len(told(questions))),
        names=tuple(name for name in state.get("names") or () if name not in state["variables"]) if before else (),
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
