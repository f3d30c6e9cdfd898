"""The functions of the REPL that call a model: which ones are offered, and how a call is answered."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps, off_loop
from rlm_adapters.errors import ModelCallError
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.media import check_blocks
from rlm_adapters.models.calling import CallRecord
from rlm_adapters.models.targets import SubModel, as_prompt
from rlm_adapters.models.tokens import estimate_tokens
from rlm_adapters.models.usage import Usage, add_usage
from rlm_adapters.prompts import cut_middle
from rlm_adapters.sandbox import HostFunction
from rlm_adapters.values.answers import CellSpec, InvalidAnswerError

_SHOWN_CHARS: Final = 2_000  # of a sub-LM's reply that did not fit, in the event about it

LLM_QUERY = HostFunction(
    name="llm_query",
    effects=False,
    parameters=("prompt", "model=", "returns="),
    doc="llm_query(prompt) -> str: ask a sub-LM; it sees only the prompt.",
)
LLM_QUERY_BATCHED = HostFunction(
    name="llm_query_batched",
    effects=False,
    batch_of="llm_query",
    parameters=("prompts", "model=", "returns="),
    doc="llm_query_batched(prompts) -> list[str]: ask many at once; answers in order.",
)
RLM_QUERY_BATCHED = HostFunction(
    name="rlm_query_batched",
    effects=False,
    batch_of="rlm_query",
    parameters=("prompts", "contexts="),
    doc="rlm_query_batched(prompts, contexts) -> list[str]: several helpers at once; answers in order.",
)


def host_functions(node: NodeContext) -> list[HostFunction]:
    """The functions that cells of this run can call."""
    functions = [tool.host_function() for tool in node.config.tools.values()]
    if not node.may_call:
        return functions
    # A child run can use tools and wait for approval. So it is run ahead only if there is neither.
    rlm_query = HostFunction(
        name="rlm_query",
        effects=bool(node.config.tools) or node.config.approve is not None,
        parameters=("prompt", "context="),
        doc="rlm_query(prompt, context=None) -> str: a helper with a REPL of its own.",
    )
    return [LLM_QUERY, LLM_QUERY_BATCHED, rlm_query, RLM_QUERY_BATCHED, *functions]


def bind(parameters: Sequence[str], args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of a call by name (the worker has checked their number)."""
    names = [name.rstrip("=") for name in parameters]
    return {**dict(zip(names, args, strict=False)), **kwargs}


@dataclass(frozen=True, slots=True)
class SubCall:
    """A call of a cell that is being answered.

    Attributes:
        id: id of the call.
        owner: id of the run.
        iteration: iteration in which it is made.
        config: passed on for nested tracing.
        record: its times and usage.
    """

    id: str
    owner: str
    iteration: int
    config: RunnableConfig
    record: CallRecord = field(default_factory=CallRecord)


def ask_sub_model(node: NodeContext, given: Mapping[str, Any], call: SubCall) -> Steps[tuple[Any, Usage]]:
    """Answer ``llm_query``.

    Args:
        node: the calling node.
        given: arguments of the call by name.
        call: the call.

    Returns:
        The text (or the value, with ``returns=``), and the usage.

    Raises:
        ModelCallError: it failed. The message is for the cell.
        BudgetExceededError: it exceeds the limits.
    """
    target = _target(node, given.get("model"))
    prompt = given.get("prompt")
    parts = [prompt] if isinstance(prompt, str) else prompt
    if not parts or not isinstance(parts, list) or not all(part and isinstance(part, str | dict) for part in parts):
        raise ModelCallError(
            f"prompt={cut_middle(repr(prompt), 300)}: give text, or a list of texts and content blocks",
            kind="bad_request",
        )
    check_blocks(parts)
    _check_length(target, prompt)
    if (returns := given.get("returns")) is not None:
        spec: CellSpec = yield off_loop(lambda: CellSpec.of(returns))
        return (yield from _ask_typed(node, target, prompt, call, spec=spec))
    return (yield from _ask_text(node, target, prompt, call))


def _ask_text(node: NodeContext, target: SubModel, prompt: Any, call: SubCall) -> Steps[tuple[str, Usage]]:
    if node.config.cache_prompts:
        asked = (target.name, prompt)
        return (yield from node.run.answers.ask(asked, lambda: _ask(node, target, prompt, call)))
    return (yield from _ask(node, target, prompt, call))


def _ask(node: NodeContext, target: SubModel, prompt: Any, call: SubCall) -> Steps[tuple[str, Usage]]:
    reply, usage = yield from node.run.caller.call(
        target,
        as_prompt(prompt),
        kind="sub",
        owner=call.owner,
        config=call.config,
        on_retry=node.retried(call.owner, call.iteration, parent=call.id),
        record=call.record,
    )
    if reply.refusal or reply.finish_reason == "content_filter":
        raise ModelCallError(f"the sub-LM refused: {reply.refusal or 'content filter'}", kind="refusal")
    return reply.text, usage


def _ask_typed(
    node: NodeContext, target: SubModel, prompt: Any, call: SubCall, *, spec: CellSpec
) -> Steps[tuple[Any, Usage]]:
    """Ask for JSON with a schema. A reply that does not fit is sent back once with the problem."""
    wanted = f"\n\nReply with JSON only, of this JSON schema:\n{json.dumps(spec.schema)}"
    text = prompt + wanted if isinstance(prompt, str) else [*prompt, {"type": "text", "text": wanted}]
    reply, usage = yield from _ask_text(node, target, text, call)
    try:
        return (yield off_loop(lambda: spec.validate(reply))), usage
    except InvalidAnswerError as error:
        node.emit(
            "repair",
            call.owner,
            call.iteration,
            id=f"{call.id}/repair",
            parent=call.id,
            reason="invalid_answer",
            message=str(error),
            reply=cut_middle(reply, _SHOWN_CHARS),
            call=call.id,
        )
        again = f"\n\nYour reply was:\n{reply}\n\nIt does not fit: {error}\nReply again, with JSON only."
        text = text + again if isinstance(text, str) else [*text, {"type": "text", "text": again}]
    second, more = yield from _ask_text(node, target, text, call)
    try:
        return (yield off_loop(lambda: spec.validate(second))), add_usage(usage, more)
    except InvalidAnswerError as error:
        raise ModelCallError(f"the sub-LM's reply does not fit `returns`, twice: {error}", kind="invalid") from error


def _target(node: NodeContext, name: Any) -> SubModel:
    if name is None or name == node.config.sub.name:
        return node.config.sub
    target = node.config.models.get(name) if isinstance(name, str) else None
    if target is None:
        known = ", ".join([node.config.sub.name, *node.config.models])
        raise ModelCallError(f"model={name!r} is not known here; known: {known}", kind="bad_request")
    return target


def _check_length(target: SubModel, prompt: Any) -> None:
    """Refuse a prompt that is too long for the model, before the model is called."""
    window = target.context_window()
    if window is None:
        return
    blocks = [prompt] if isinstance(prompt, str) else prompt
    text = "".join(block if isinstance(block, str) else str(block.get("text", "")) for block in blocks)
    tokens = estimate_tokens(text) * 3 // 4  # a middle estimate: a prompt that may fit is sent
    if tokens > window:
        fits = window * 3
        raise ModelCallError(
            f"the prompt of {len(text):,} characters (about {tokens:,} tokens) is too long for {target.name!r}, which "
            f"takes {window:,} tokens: split it into pieces of at most {fits:,} characters, for example "
            f"`pieces = [text[i:i + {fits}] for i in range(0, len(text), {fits})]` and `llm_query_batched`",
            kind="context_length",
        )
