"""Last nodes: accept or refuse an answer, continue, or get the best answer if a limit ends the run."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps
from rlm_adapters.errors import BudgetExceededError, ModelCallError
from rlm_adapters.graph.asking import ask_root, root_call_id
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.cures import confirmed
from rlm_adapters.graph.direct import DIRECT
from rlm_adapters.graph.edited import reply_as_run
from rlm_adapters.graph.state import CellOutput, FinishReason, RLMState, TurnEntry
from rlm_adapters.graph.unusable import fitting, give_up, shown
from rlm_adapters.graph.view import load_trajectory, trajectory_of
from rlm_adapters.models.targets import ModelReply
from rlm_adapters.models.usage import Usage, add_usage, subtract_usage
from rlm_adapters.prompts import CellResult, Outcome
from rlm_adapters.replies import TextFinish, accept_provisional
from rlm_adapters.values.answers import InvalidAnswerError

_REASONS: dict[str, FinishReason] = {"max_iterations": "max_iterations", "max_seconds": "timeout"}
"""Finish reason by the limit that ended the run. For other limits it is ``budget``."""


def check_final(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:  # noqa: ARG001
    """Check the turn: an accepted answer ends the run; otherwise the root LM sees the outcome in the next turn."""
    if state.get("stop") and state.get("reply") is None:
        return {}
    yield from load_trajectory(state, node)
    yield from node.content.load(state.get("reply"), state.get("outputs"), state.get("submitted"))
    reply, edited = yield from reply_as_run(state, node)
    verdict = _judge({**state, "reply": reply}, node)
    replied = reply["text"] if reply is not None else ""
    if "finish_reason" in verdict:
        return {**_end(state, node, verdict), "turns": [{"reply": replied, "observation": ""}]}
    iteration = state["iterations"]
    repairs = (state.get("repairs") or 0) + 1 if verdict.get("problem") else 0
    if verdict.get("problem"):
        told = {"reason": verdict["problem"], "message": verdict["outcome"].note}
        if not state.get("outputs") and (written := shown(state, node)):
            told["reply"] = written  # otherwise the events of cells have shown it
        parent = root_call_id(iteration)
        node.emit("repair", state["run_id"], iteration, id=f"{parent}/repair", parent=parent, **told)
    stop = state.get("stop") or node.run.ledger.exhausted()
    if stop is None and iteration >= node.config.limits.max_iterations:
        stop = "max_iterations"
    if stop is None and repairs > node.config.limits.max_repairs:
        return _end(state, node, give_up(state, node, verdict, repairs))
    trajectory = trajectory_of(state, node, iteration=iteration + 1)
    outcome: Outcome = verdict["outcome"]
    if edited:
        outcome = replace(outcome, note="\n".join(filter(None, (edited, outcome.note))))
    observation = node.config.writer.observe(outcome, trajectory)
    turn: TurnEntry = {"reply": replied, "observation": node.content.write(observation)}
    return {
        "turns": [turn],
        "reply": None,
        "submitted": None,
        "repairs": repairs,
        "candidate": verdict.get("candidate") or state.get("candidate"),
        "stop": stop,
    }


def extract(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:
    """A limit ends the run: ask for the best answer that the outputs support, and set the finish reason."""
    limit = state.get("stop") or "max_iterations"
    reason = _REASONS.get(limit, "budget")
    message = state.get("error") or f"the limit {limit}={getattr(node.config.limits, limit, None)!r} was reached"
    node.emit("limit", state["run_id"], id="limit", parent=state["run_id"], limit=limit, message=message)
    answer: Any = fitting(state.get("candidate"), node)
    usage: dict[str, Any] = {}
    writer = node.config.writer
    try:
        yield from load_trajectory(state, node)
        trajectory = trajectory_of(state, node, iteration=state.get("iterations") or 0)
        reply, usage = yield from ask_root(
            node,
            writer.extract_target,
            writer.extract_prompt(trajectory, message, state.get("candidate")),
            config,
            kind="extract",
            run_id=state["run_id"],
            iteration=None,
            id="lm-last",
            start="extract_started",
        )
        answer, misfit = _extracted(reply, node, answer)
        message += f"; the answer that was given then does not fit: {misfit}" if misfit else ""
    except (BudgetExceededError, ModelCallError) as error:
        message = f"{message}; no last answer could be asked for: {error}"
    verdict = {"finish_reason": reason, "answer": answer, "error": message}
    return _end(state, node, verdict, usage)


# ------------------------------------------------------------------------------------------------ judging


def _judge(state: RLMState, node: NodeContext) -> dict[str, Any]:
    """The verdict on a turn: ``finish_reason`` and ``answer``, or the ``outcome`` for the root LM."""
    read, reply, outputs = node.content.read, state.get("reply"), state.get("outputs") or []
    submitted = state.get("submitted")
    if submitted is not None:
        reason: FinishReason = "direct" if submitted["function"] == DIRECT else "submitted"
        return _validated(read(submitted["value"]), reason, submitted["function"], state, node)
    if reply is None:
        return {"outcome": Outcome(note="The reply was lost.")}
    if reply["problem"]:
        return {"outcome": Outcome(note=reply["message"]), "problem": reply["problem"]}
    final = reply["final"]
    failed = any(output["error"] for output in outputs)
    if final is not None and not failed:
        text = read(final["text"])
        printed = "\n".join(read(output["stdout"]) for output in outputs)
        if accept_provisional(TextFinish("text", text, provisional=final["provisional"]), printed):
            return _validated(read(final["value"]), "text", "text", state, node)
    answer = None if failed else confirmed(state, node)
    if answer is not None:
        verdict = _validated(answer, "text", "text", state, node)
        if "finish_reason" in verdict:
            message = f"the answer was stated {state['confirmations'] + 1} times unchanged: the run ends with it"
            parent = root_call_id(state["iterations"])
            node.emit("warning", state["run_id"], state["iterations"], parent=parent, message=message)
            return verdict
    if final is not None and not failed:
        note = (
            "You wrote the answer before you saw this output. If it still stands, give it again with SUBMIT(...); "
            "otherwise go on."
        )
        return {"outcome": Outcome(_results(outputs, node), note), "candidate": read(final["text"])}
    notes = [reply["message"], *(output["note"] for output in outputs if "note" in output)]
    return {"outcome": Outcome(_results(outputs, node), "\n".join(filter(None, notes)))}


def _validated(value: Any, reason: FinishReason, function: str, state: RLMState, node: NodeContext) -> dict[str, Any]:
    spec = node.config.output
    try:
        answer = spec.to_json(spec.validate(value))
    except InvalidAnswerError as error:
        outputs = state.get("outputs") or []
        printed = _results(outputs, node) if any(output["stdout"] for output in outputs) else ()
        note = f"{function} was refused, the answer does not fit:\n{error}\nWanted: {spec.describe()}"
        return {
            "outcome": Outcome(printed, note),
            "problem": "invalid_answer",
            "invalid": str(error),
            "candidate": value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str),
        }
    return {"finish_reason": reason, "answer": answer, "function": function}


def _results(outputs: list[CellOutput], node: NodeContext) -> tuple[CellResult, ...]:
    """The results of a turn's cells, for the writer."""
    return tuple(
        CellResult(node.content.read(output["stdout"]), output["chars"], output["error"]) for output in outputs
    )


# ------------------------------------------------------------------------------------------------ the end


def _extracted(reply: ModelReply, node: NodeContext, candidate: Any) -> tuple[Any, str]:
    """The answer in the reply to the last question, or the candidate if there is none, and why it does not fit."""
    value, spec = node.config.writer.read_answer(reply), node.config.output
    if value is None:
        return candidate, ""
    try:
        return spec.to_json(spec.validate(value)), ""
    except InvalidAnswerError as error:
        return candidate, str(error)


def _end(
    state: RLMState, node: NodeContext, verdict: dict[str, Any], usage: dict[str, Any] | None = None
) -> dict[str, Any]:
    """End the run and its worker, and return the result."""
    run_id = state["run_id"]
    node.run.finish(run_id)
    # The ledger also counts the tokens of child runs that failed. A child run reports only its own sum.
    known: Usage = state.get("usage") or {}
    total = node.run.ledger.used if node.depth == 0 else add_usage(known, usage)
    if verdict.get("function"):
        told = {"answer": verdict["answer"], "function": verdict["function"]}
        node.emit("final", run_id, state["iterations"], parent=root_call_id(state["iterations"]), **told)
    seconds = node.run.ledger.seconds
    node.emit(
        "run_finished",
        run_id,
        id=run_id,
        parent=node.parent_call,
        finish_reason=verdict["finish_reason"],
        answer=verdict["answer"],
        usage=total,
        iterations=state.get("iterations") or 0,
        seconds=seconds,
        error=verdict.get("error"),
    )
    return {
        "answer": verdict["answer"],
        "finish_reason": verdict["finish_reason"],
        "error": verdict.get("error"),
        "usage": subtract_usage(total, known),
        "seconds": seconds,
        "reply": None,
        "submitted": None,
    }
