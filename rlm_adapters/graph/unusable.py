"""Handle replies without anything to run: their text, and a remedy for the user."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.state import RLMState
from rlm_adapters.prompts import ChatCodeWriter, cut_middle
from rlm_adapters.replies import plain_answer
from rlm_adapters.values.answers import InvalidAnswerError

_SHOWN_CHARS: Final = 2_000  # of a reply, in the event about it
_HEAD_CHARS: Final = 200  # of the last reply, in the error of the run

_REMEDIES: Final = {
    "cut_off": "raise the root LM's max_tokens",
    "too_long": "lower the root LM's max_tokens",
    "refusal": "take another root LM, or say in the instructions why it may answer",
    "invalid_answer": "describe the fields of output_type, or make it simpler",
}


def last_reply(state: Mapping[str, Any], node: NodeContext) -> str:
    """The reply of the current turn as the root LM wrote it; empty if there is none."""
    reply = state.get("reply")
    return node.config.writer.as_written(node.content.read(reply["text"])).strip() if reply is not None else ""


def shown(state: Mapping[str, Any], node: NodeContext) -> str:
    """Head and tail of the reply of the current turn, for people."""
    return cut_middle(last_reply(state, node), _SHOWN_CHARS)


def give_up(state: RLMState, node: NodeContext, verdict: Mapping[str, Any], repairs: int) -> dict[str, Any]:
    """The verdict on a run whose last ``repairs`` replies in a row could not be used.

    If there is an earlier answer, or the last replies have an answer in plain words, it is returned with the finish
    reason ``unsubmitted``.
    """
    problem, said = verdict["problem"], last_reply(state, node)
    why = f": {verdict['invalid']}" if "invalid" in verdict else ""
    head = f". The last one begins: {said[:_HEAD_CHARS]!r}" if said else ""
    error = f"{repairs} replies in a row could not be used (last: {problem}{why}){head}. What may help: "
    answer = fitting(verdict.get("candidate") or state.get("candidate"), node)
    if answer is None:
        answer = fitting(_said_plainly(state, node, repairs), node)
    reason = "error" if answer is None else "unsubmitted"
    return {"finish_reason": reason, "answer": answer, "error": error + _remedy(problem, node)}


def fitting(value: Any, node: NodeContext) -> Any:
    """A value as the answer; None if it does not fit the output type."""
    if value is None:
        return None
    spec = node.config.output
    try:
        return spec.to_json(spec.validate(value))
    except InvalidAnswerError:
        return None


def _said_plainly(state: RLMState, node: NodeContext, repairs: int) -> str | None:
    """The plain answer in the latest of the last replies that has one."""
    writer, read = node.config.writer, node.content.read
    earlier = [turn["reply"] for turn in (state.get("turns") or ())[-(repairs - 1) :]] if repairs > 1 else []
    texts = (last_reply(state, node), *(writer.as_written(read(text)) for text in reversed(earlier)))
    return next((said for text in texts if (said := plain_answer(text)) is not None), None)


def _remedy(problem: str, node: NodeContext) -> str:
    if problem in _REMEDIES:
        return _REMEDIES[problem]
    ways = ["another root LM"]
    if isinstance(node.config.writer, ChatCodeWriter):
        if not node.config.writer.worked_example:
            ways.append("worked_example=True, which shows it a solved task")
        if not node.config.direct_below:
            ways.append("direct_below=..., for inputs that are short enough to be answered without a REPL")
    return "; ".join(ways)
