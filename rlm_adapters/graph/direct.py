"""Answer a short input by one call, without a REPL.

In replications, RLMs are worse than a direct call on short inputs. So inputs of fewer than ``direct_below`` characters
get one direct call. If the answer does not fit ``output_type``, is empty or a refusal, the run continues as an RLM.
"""

from __future__ import annotations

import json
from typing import Any

from langchain_core.messages import HumanMessage, SystemMessage
from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps
from rlm_adapters.graph.asking import ask_root, root_call_id
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.state import RLMState
from rlm_adapters.replies import read_reply
from rlm_adapters.values.refs import ContentRef, is_ref

DIRECT = "direct"
"""Function name and finish reason of the answer of a direct call."""

_TASK = "Answer the question from the inputs given. If they do not hold the answer, say so."


def is_short(state: RLMState, node: NodeContext) -> bool:
    """Whether the first turn of this run is a direct call."""
    below = node.config.direct_below
    if not below or node.depth or state.get("iterations") or node.config.tools or state["file_sizes"]:
        return False
    if len(state["questions"]) > 1:
        return False  # the answer may be in the earlier variables of the thread
    return sum(_length(value) for value in (state["query"], *state["variables"].values())) < below


def answer_directly(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:
    """Make one call with everything in the prompt."""
    content = node.content
    yield from content.load(state["query"], state["variables"])
    system = "\n\n".join(part for part in (_TASK, node.config.instructions, state.get("instructions") or "") if part)
    if node.config.output.schema is not None:
        system += f"\n\nReply with JSON only, of this JSON schema:\n{_text(node.config.output.schema)}"
    inputs = [f"<{name}>\n{_text(content.read(value))}\n</{name}>" for name, value in state["variables"].items()]
    prompt = [SystemMessage(system), HumanMessage("\n\n".join([*inputs, content.read(state["query"])]))]
    reply, usage = yield from ask_root(
        node,
        node.config.direct or node.config.sub,
        prompt,
        config,
        kind="root",
        run_id=state["run_id"],
        iteration=1,
        id=root_call_id(1),
        prompt_chars=sum(len(str(one.content)) for one in prompt),
        direct=True,
    )
    said = reply.text if reply.text.strip() else None
    reading = None if said else read_reply("", refusal=reply.refusal, finish_reason=reply.finish_reason)
    return {
        "iterations": 1,
        "usage": usage,
        "seconds": node.run.ledger.seconds,
        "reply": {
            "text": content.write(reply.text),
            "final": None,
            "problem": "" if reading is None else reading.repair or "empty",
            "message": "" if reading is None else reading.message,
            "thought": "",
            "written": [],
        },
        "queue": [],
        "outputs": [],
        "submitted": None if said is None else {"function": DIRECT, "value": content.write(said)},
    }


def _length(value: Any) -> int:
    return ContentRef.from_state(value).nbytes if is_ref(value) else len(_text(value))


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
