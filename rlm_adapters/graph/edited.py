"""Show the root LM the cells that ran, if somebody edited them."""

from __future__ import annotations

from rlm_adapters.effects import Steps
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.journal import digest
from rlm_adapters.graph.state import Reply, RLMState

EDITED = "This code was edited by a person before it ran: the block above is what ran."


def reply_as_run(state: RLMState, node: NodeContext) -> Steps[tuple[Reply | None, str]]:
    """The reply of the current turn, with the cells that ran instead of those that the root LM wrote.

    Returns:
        The reply, and a message for the root LM; None and "" if the cells were not edited.
    """
    reply = state.get("reply")
    ran = sum(not output.get("refused") for output in state.get("outputs") or ())
    if reply is None or not ran:
        return reply, ""
    entries = state["cells"][-ran:]
    yield from node.content.load([entry["code"] for entry in entries])
    cells = [node.content.read(entry["code"]) for entry in entries]
    if [digest(cell) for cell in cells] == reply["written"][:ran]:
        return reply, ""
    text = node.config.writer.as_reply(cells, node.content.read(reply["text"]))
    edited: Reply = {**reply, "text": node.content.write(text), "final": None, "problem": "", "message": ""}
    return edited, EDITED
