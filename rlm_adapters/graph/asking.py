"""Call the root LM once, and emit the events of the call."""

from __future__ import annotations

import time
from typing import Any, Literal

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.models.budget import CallKind
from rlm_adapters.models.calling import CallRecord
from rlm_adapters.models.shown import messages_of
from rlm_adapters.models.targets import ModelReply, ModelTarget, heard
from rlm_adapters.models.usage import Usage

Start = Literal["iteration_started", "extract_started"]


def root_call_id(iteration: int | None, *, refused: int = 0) -> str:
    """The id of an iteration's call to the root LM, after ``refused`` calls that its server refused."""
    return f"lm-{iteration or 0}{'-again' * refused}"


def ask_root(
    node: NodeContext,
    target: ModelTarget,
    prompt: Any,
    config: RunnableConfig,
    *,
    kind: CallKind,
    run_id: str,
    iteration: int | None,
    id: str,  # noqa: A002 - the event's name for it
    start: Start = "iteration_started",
    **told: Any,
) -> Steps[tuple[ModelReply, Usage]]:
    """Call the root LM, and emit its events.

    Args:
        node: the calling node.
        target: the model.
        prompt: in the form of the target.
        config: passed on for nested tracing.
        kind: for the ledger.
        run_id: id of the run.
        iteration: iteration of the run.
        id: id of the call, unique in the run.
        start: type of the event at its start.
        **told: further data of this event.

    Raises:
        BudgetExceededError: the call does not fit into the limits of the run.
        ModelCallError: it failed after all retries.
    """
    if node.run.wants_texts:
        told["messages"] = messages_of(target, prompt)
    node.emit(start, run_id, iteration, id=id, parent=run_id, model=target.name, **told)
    if node.config.stream_tokens and not node.depth:
        config = heard(config)
    record, began = CallRecord(target.name), time.monotonic()

    def ended(reply: str, **more: Any) -> None:
        seconds = time.monotonic() - began
        told = {**record.figures(), **more}
        node.emit(
            "root_replied", run_id, iteration, id=id, parent=run_id, texts={"reply": reply}, seconds=seconds, **told
        )

    try:
        reply, usage = yield from node.run.caller.call(
            target,
            prompt,
            kind=kind,
            owner=run_id,
            config=config,
            role="root LM",
            on_retry=node.retried(run_id, iteration, parent=id),
            record=record,
        )
    except Exception as error:
        ended("", error=str(error) or type(error).__name__)
        raise
    ended(reply.text, finish_reason=reply.finish_reason)
    return reply, usage
