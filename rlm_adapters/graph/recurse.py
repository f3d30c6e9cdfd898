"""Fourth node: answer the requests of a cell with a sub-LM, a child run of this graph, or a tool."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.errors import GraphBubbleUp

from rlm_adapters.effects import Steps, Wait, gather, wait_for_future
from rlm_adapters.errors import BudgetExceededError, ContentError, InputError, ModelCallError
from rlm_adapters.graph.calls import LLM_QUERY, SubCall, ask_sub_model, bind
from rlm_adapters.graph.context import NodeContext, RLMContext
from rlm_adapters.graph.early import EarlyCall
from rlm_adapters.graph.injection import ToolCall
from rlm_adapters.graph.review import review_tool
from rlm_adapters.graph.state import RecurseInput, Request
from rlm_adapters.graph.telling import ToldCall
from rlm_adapters.graph.tool_results import ToolFailedError, ToolResult, merge_updates
from rlm_adapters.models.targets import quiet
from rlm_adapters.models.usage import Usage, add_usage
from rlm_adapters.prompts import cut_middle
from rlm_adapters.values.answers import to_plain
from rlm_adapters.values.refs import ContentRef, is_ref

_PARTIAL_CHARS = 2_000  # of a child's partial answer, in the error that its parent gets
_CONTEXT_IN_PROMPT = "\n\nContext:\n"


def recurse(task: RecurseInput, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:
    """Answer all requests of a task at the same time."""
    yield from node.content.load([[request["args"], request["kwargs"]] for request in task["requests"]])
    if len(task["requests"]) == 1:
        return (yield from _answer(task["requests"][0], task, node, config))
    config = quiet(config)  # once for all calls, because it takes longer than the other work for a call
    works = [_answer(request, task, node, config) for request in task["requests"]]
    parts = yield gather(works, node.config.limits.max_concurrency)
    answers: dict[str, Any] = {}
    usage: Usage = {}
    updates: dict[str, Any] = {}
    for part in parts:
        answers |= part.get("answers") or {}
        usage = add_usage(usage, part.get("usage"))
        updates = merge_updates(updates, part.get("updates") or {})
    return {"answers": answers, "usage": usage, **({"updates": updates} if updates else {})}


@dataclass(frozen=True, slots=True)
class _Outcome:
    """The outcome of a request."""

    value: Any = None
    usage: Usage = field(default_factory=dict)
    updates: Mapping[str, Any] = field(default_factory=dict)
    """Changes that a tool makes in the state around the run."""
    failure: dict[str, Any] | None = None
    """The error for the cell."""
    told: str = ""
    """The error for listeners."""
    approved: bool = False
    """Whether the rest of the run was approved, too."""


def _answer(request: Request, task: RecurseInput, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:
    """Answer a request. The cell sees any failure, except LangGraph's interrupts."""
    given = node.content.read(request["args"]), node.content.read(request["kwargs"])
    early = node.run.early.join(task["run_id"], request["id"], ahead=request["ahead"])
    call = ToldCall(request, task, node, config, early)
    call.started(*given)
    try:
        outcome = None if early is None else (yield from _made_early(early))
        if outcome is None:
            call.not_early(config)
            outcome = yield from _make_call(request, given, task, node, call.made)
    except (GraphBubbleUp, ContentError):
        raise  # not a failure of this call: the run waits, or its store failed
    except _BrokenError as broken:
        raise broken.cause from None
    except Exception as error:  # a tool may raise anything, and the model can often continue
        usage = error.usage if isinstance(error, ModelCallError) else {}
        if isinstance(error, ModelCallError) and error.permanent:
            call.finished(error=str(error), usage=usage)
            raise  # every further call would fail, too: the run ends with this error
        if request["ahead"] and _may_succeed_later(error):
            # Nobody waits for it yet, and the cell may never ask. Its usage counts.
            call.finished(dropped=str(error), usage=usage)
            return {"usage": usage} if usage else {}
        outcome = _failed(error)
    failure = outcome.failure
    value = to_plain(outcome.value) if failure is None else None
    call.finished(value, error=None if failure is None else outcome.told or failure["message"], usage=outcome.usage)
    answer = {"failure": failure} if failure is not None else {"value": node.content.write(value)}
    changed: dict[str, Any] = {"updates": outcome.updates} if outcome.updates else {}
    if outcome.approved:
        changed["approved"] = True
    return {"answers": {request["id"]: answer}, "usage": outcome.usage, **changed}


def _make_call(
    request: Request, given: tuple[Any, Any], task: RecurseInput, node: NodeContext, call: SubCall
) -> Steps[_Outcome]:
    """Make a call of a cell to a tool, a sub-LM or a child run, with the args and kwargs of the cell."""
    function = request["function"]
    if function in node.config.tools:
        result, approved = yield from _use_tool(request, task, node, call.config)
        return _Outcome(result.value, updates=result.updates, approved=approved)
    if function == "llm_query" and node.may_call:
        return _Outcome(*(yield from ask_sub_lm(given, task, node, call)))
    if function == "rlm_query" and node.may_call:
        value, usage, updates = yield from _ask_child(node, bind(("prompt", "context="), *given), task, call)
        return _Outcome(value, usage, updates)
    return _refused(f"{function} is not offered here", "bad_request")


def ask_sub_lm(
    given: tuple[Any, Any], task: RecurseInput, node: NodeContext, call: SubCall
) -> Steps[tuple[Any, Usage]]:
    """Answer ``llm_query`` with the args and kwargs of a cell.

    Returns:
        The value and the usage.

    Raises:
        ModelCallError: it failed.
        BudgetExceededError: it does not fit into the limits.
    """
    named = yield from _with_inputs(bind(LLM_QUERY.parameters or (), *given), task, node)
    return (yield from ask_sub_model(node, named, call))


def _made_early(early: EarlyCall) -> Steps[_Outcome | None]:
    """The outcome of an early call; None: the call must be made now."""
    if early.started is None:
        return None
    try:
        value, usage = yield wait_for_future(early.started.future)
    except (ModelCallError, BudgetExceededError) as error:
        if _may_succeed_later(error):
            return None
        raise
    except Exception:  # noqa: BLE001 - such as a loop that has ended: it is made at its turn
        return None
    return _Outcome(value, usage)


def _may_succeed_later(error: Exception) -> bool:
    """Whether a call that failed because of a rate limit or a limit may succeed when the cell asks for it."""
    if isinstance(error, ModelCallError):
        return error.retryable or isinstance(error, _ChildEndedError)
    return isinstance(error, BudgetExceededError)


def _failed(error: Exception) -> _Outcome:
    """The error for the cell."""
    match error:
        case BudgetExceededError():
            return _refused(f"{error}; finish with what you have", "budget")
        case ModelCallError():  # a cell sees no address
            failure = {"message": error.detail, "kind": error.kind, "retryable": error.retryable}
            return _Outcome(usage=error.usage, failure=failure, told=str(error))
        case InputError() | ToolFailedError():
            return _refused(str(error), "bad_request")
    return _refused(f"{type(error).__name__}: {error}", "tool")


def _refused(message: str, kind: str) -> _Outcome:
    return _Outcome(failure={"message": message, "kind": kind, "retryable": False})


def _use_tool(
    request: Request, task: RecurseInput, node: NodeContext, config: RunnableConfig
) -> Steps[tuple[ToolResult, bool]]:
    """Call a tool inside the loop, with the information about the caller.

    Returns:
        Its result, and whether the rest of the run was approved, too.

    Raises:
        InputError: it tries to change a key of this run.
        ToolFailedError: it was not approved.
    """
    tool, state = node.config.tools[request["function"]], node.caller.state
    args = yield from _with_inputs(node.content.read(request["args"]), task, node)
    kwargs = yield from _with_inputs(node.content.read(request["kwargs"]), task, node)
    approved = False
    if node.config.approve is not None and not task.get("approved") and not tool.internal:
        args, kwargs, approved = yield from review_tool(tool, (args, kwargs), task, node, config)
    if state is None and any(one.kind in ("state", "runtime") for one in tool.injected.values()):
        state = yield from _given_state(task, node)
    if tool.internal:
        call = ToolCall(request["id"], config, node.runtime, state)
    else:
        call = ToolCall.made_by(node.caller, request["id"], config=config, runtime=node.runtime, state=state)
    result = yield from tool.call(args, kwargs, call)
    if own := sorted(node.config.keys.taken() & result.updates.keys()):
        raise InputError(f"tool {tool.name!r} returned Command(update=...) of {own[0]!r}, which is the run's own key")
    return result, approved


def _given_state(task: RecurseInput, node: NodeContext) -> Steps[dict[str, Any]]:
    """The input of the run, if it continues in a process that did not get the input."""
    yield from node.content.load(task["query"], task["variables"])
    inputs = {name: node.content.read(value) for name, value in task["variables"].items()}
    return {"query": node.content.read(task["query"]), "context": inputs.pop("context", None), "inputs": inputs}


def _ask_child(
    node: NodeContext, given: Mapping[str, Any], task: RecurseInput, call: SubCall
) -> Steps[tuple[Any, Usage, dict[str, Any]]]:
    """Answer ``rlm_query`` with a child run, or at the deepest level with one plain call.

    Returns:
        The answer, the usage, and the changes of tools in the state around the run.
    """
    prompt = given.get("prompt")
    if not isinstance(prompt, str) or not prompt.strip():
        raise ModelCallError(f"prompt={prompt!r}: give the sub-question as text", kind="bad_request")
    context = _meant(given.get("context"), task)
    if not is_ref(context) and context in ("", [], {}):
        context = None
    if not node.may_recurse:
        yield from node.content.load(context)
        text = node.content.read(context)
        whole = prompt if text is None else f"{prompt}{_CONTEXT_IN_PROMPT}{text}"
        answer, usage = yield from ask_sub_model(node, {"prompt": whole}, call)
        return answer, usage, {}
    given_input: dict[str, Any] = {"query": prompt}
    if context is not None:
        # An input of the parent is not stored again.
        given_input["context"] = ContentRef.from_state(context) if is_ref(context) else context
    child = RLMContext(
        config=node.config.for_child(approved=task.get("approved") or False),
        run=node.run,
        depth=node.depth + 1,
        parent_run_id=task["run_id"],
        parent_call=call.id,
        streamed=node.streamed,
        graph=node.graph,
        caller=node.caller,
    )
    parent = f"cell-{call.id.partition(':')[0]}"
    node.emit("child_started", task["run_id"], task["iteration"], id=call.id, parent=parent, query=prompt)
    graph = node.graph
    try:
        result = yield Wait(
            lambda: graph.invoke(given_input, call.config, context=child),
            lambda: graph.ainvoke(given_input, call.config, context=child),
        )
    except (GraphBubbleUp, ModelCallError, BudgetExceededError, InputError):
        raise
    except Exception as error:
        raise _BrokenError(error) from error
    usage = result["usage"]
    if result["finish_reason"] in ("budget", "timeout", "error", "unsubmitted"):
        partial = result["answer"]
        noted = "" if partial is None else f"; its partial answer: {cut_middle(str(partial), _PARTIAL_CHARS)}"
        raise _ChildEndedError(f"the helper ended early ({result['error'] or result['finish_reason']}){noted}", usage)
    return result["answer"], usage, result.get("updates") or {}


def _with_inputs(values: Any, task: RecurseInput, node: NodeContext) -> Steps[Any]:
    """Arguments (a list or a dict) with inputs instead of their names."""
    named = values if isinstance(values, dict) else dict(enumerate(values))
    meant = {name: _meant(value, task) for name, value in named.items()}
    inputs = {name: value for name, value in meant.items() if value is not named[name]}
    yield from node.content.load(inputs)
    resolved = meant | {name: node.content.read(value) for name, value in inputs.items()}
    return resolved if isinstance(values, dict) else list(resolved.values())


def _meant(value: Any, task: RecurseInput) -> Any:
    """The value of an argument: an input of the session, packed (its text is not sent), or else the argument.

    A dict of the cell that looks like the name of an input arrives as a ``literal``.
    """
    if not isinstance(value, dict) or set(value) != {"$input"}:
        return value
    named = value["$input"]
    return named["literal"] if isinstance(named, dict) else task["variables"].get(named)


class _ChildEndedError(ModelCallError):
    """A child run ended without an answer. Its usage counts."""

    def __init__(self, message: str, usage: Usage) -> None:
        super().__init__(message, kind="child")
        self.usage = usage


class _BrokenError(Exception):
    """The sandbox or checkpointer of a child run failed. This must not become an answer, because a cell would keep it.

    Attributes:
        cause: the error that ends the run. The run can be resumed.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause
