"""Second node: ask the code writer for the next cell, and read its reply."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps, off_loop
from rlm_adapters.errors import BudgetExceededError, ModelCallError
from rlm_adapters.graph.asking import ask_root, root_call_id
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.cures import confirmations
from rlm_adapters.graph.direct import answer_directly, is_short
from rlm_adapters.graph.execute import ahead_usage, tell_early_waste
from rlm_adapters.graph.journal import digest
from rlm_adapters.graph.opening import open_early
from rlm_adapters.graph.state import Reply, RLMState, TextAnswer
from rlm_adapters.graph.stream_ahead import hear_root
from rlm_adapters.graph.view import load_trajectory, trajectory_of
from rlm_adapters.models.listening import refuses_to_stream
from rlm_adapters.models.targets import ModelReply
from rlm_adapters.models.usage import Usage, add_usage
from rlm_adapters.prompts import cut_middle
from rlm_adapters.replies import UNSET, Reading

_FILL = 0.7  # share of the window from which older turns are folded into a summary
_THOUGHT_CHARS = 2_000  # of the text around the code, for views of the run
_LONG_REPLY = 20_000  # characters
_KEEP_TURNS = 3  # last turns that are not folded


def generate_code(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:
    """Write the next cell."""
    run_id = state["run_id"]
    node.attach(run_id, state.get("usage"), state.get("seconds"))
    iteration = (state.get("iterations") or 0) + 1
    folded = state.get("folded") or 0
    try:
        if is_short(state, node):
            return (yield from answer_directly(state, node, config))
        open_early(state, node)
        reply, usage, folded = yield from _hear(state, node, config, iteration)
    except BudgetExceededError as error:
        return {"stop": error.limit, "error": str(error), "seconds": node.run.ledger.seconds}
    reading = yield from _read(reply, state, node)
    cells = cells_of(reading)
    if not cells:
        usage = add_usage(usage, _in_vain(state, node, iteration))
    return {
        "iterations": iteration,
        "folded": folded,
        "usage": usage,
        "seconds": node.run.ledger.seconds,
        "reply": _entry(reply, reading, cells, node),
        "queue": [node.content.write(cell) for cell in cells],
        "outputs": [],
        "submitted": None,
        "candidate": reading.best_so_far or state.get("candidate"),
        "confirmations": confirmations(state, reading.best_so_far),
    }


def _hear(
    state: RLMState, node: NodeContext, config: RunnableConfig, iteration: int
) -> Steps[tuple[ModelReply, Usage, int]]:
    """Ask the writer. With ``parallel="stream"``, sub-calls of its cell start before the reply is complete."""
    ahead = yield from hear_root(state, node, config)
    if ahead is None:
        return (yield from _ask(state, node, config, iteration))
    try:
        asked = yield from _ask(state, node, config, iteration, ahead.config)
    except BaseException:
        node.run.early.end(state["run_id"])
        raise
    yield from ahead.complete()
    if not asked[0].counted:
        node.run.early.stop_listening()
    return asked


def _in_vain(state: RLMState, node: NodeContext, iteration: int) -> Usage:
    """Add early calls to the ledger that were made for a reply without a cell to run."""
    early = node.run.early.settle(state["run_id"])
    if early is None or not early.calls:
        return {}
    tell_early_waste(node, state["run_id"], iteration, early)
    return add_usage(early.usage, ahead_usage(node, early.calls, early.wasted))


def _ask(
    state: RLMState, node: NodeContext, config: RunnableConfig, iteration: int, streamed: RunnableConfig | None = None
) -> Steps[tuple[ModelReply, Usage, int]]:
    """Ask the writer, and fold older turns if the prompt is nearly as long as the model's window.

    If the server refuses a long prompt or streaming, try again with a shorter prompt or without streaming (``streamed``
    is the config for streaming).
    """
    writer = node.config.writer
    yield from load_trajectory(state, node)
    trajectory = trajectory_of(state, node, iteration=iteration)
    window = writer.window()
    prompt = writer.prompt(trajectory)
    tokens = writer.target.estimate(prompt)
    foldable = max(trajectory.folded, len(trajectory.turns) - _KEEP_TURNS)
    if window and tokens > window * _FILL and foldable > trajectory.folded:
        trajectory = replace(trajectory, folded=foldable)
        prompt = writer.prompt(trajectory)
        tokens = writer.target.estimate(prompt)
    if node.depth == 0:
        node.run.ledger.keep_for_last(writer.extract_target.name, tokens)
    shortened, refused = False, 0
    while True:
        size, used = 3 * tokens, node.run.ledger.used
        try:
            reply, usage = yield from ask_root(
                node,
                writer.target,
                prompt,
                streamed or config,
                kind="sub" if node.depth else "root",
                run_id=state["run_id"],
                iteration=iteration,
                id=root_call_id(iteration, refused=refused),
                prompt_chars=size,
                used=used,
            )
        except ModelCallError as error:
            refused += 1
            if streamed is not None and refuses_to_stream(error):
                streamed = None
                node.run.early.stop_listening()
                message = f"the root LM does not stream ({error.detail}): from here on it is asked without"
            elif not shortened and error.kind == "context_length" and len(trajectory.turns) - 1 > trajectory.folded:
                # The window may be unknown: then only the provider's refusal shows that the prompt is too long.
                shortened = True
                trajectory = replace(trajectory, folded=len(trajectory.turns) - 1)
                prompt = writer.prompt(trajectory)
                tokens = writer.target.estimate(prompt)
                message = "the prompt was too long for the root LM: folded"
            else:
                raise
            node.emit("warning", state["run_id"], iteration, message=message)
        else:
            return reply, usage, trajectory.folded


def _read(reply: ModelReply, state: RLMState, node: NodeContext) -> Steps[Reading]:
    """Read a reply. A long one takes tens of milliseconds, so it is not read on the event loop."""

    def read() -> Reading:
        return node.config.writer.read(reply, state.get("names") or ())

    if len(reply.text) < _LONG_REPLY:
        return read()
    reading: Reading = yield off_loop(read)
    return reading


def cells_of(reading: Reading) -> tuple[str, ...]:
    """The cells to run. A finish with a variable or an expression becomes a further, last cell."""
    final = reading.final
    if final is None or final.kind == "text":
        return reading.code
    call = f"FINAL_VAR({final.text!r})" if final.kind == "var" else f"FINAL({final.text})"
    return (*reading.code, call)


def _entry(reply: ModelReply, reading: Reading, cells: tuple[str, ...], node: NodeContext) -> Reply:
    write, final = node.content.write, reading.final
    answer: TextAnswer | None = None
    if final is not None and final.kind == "text":
        value = final.text if final.literal is UNSET else final.literal
        answer = {"text": write(final.text), "value": write(value), "provisional": final.provisional}
    return {
        "text": write(reply.text),
        "final": answer,
        "problem": reading.repair,
        "message": reading.message,
        "thought": cut_middle(reading.thought, _THOUGHT_CHARS),
        "written": [digest(cell) for cell in cells],
    }
