"""Let a person or a function approve a cell or a tool call before it runs.

The run waits in LangGraph's ``interrupt``, between two steps and never inside a cell. The request and the answers have
the form of LangChain's `HumanInTheLoopMiddleware`, so its clients work here, too.
"""

from __future__ import annotations

import ast
import asyncio
import inspect
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias, cast, get_args

from langchain_core.runnables import RunnableConfig
from langgraph.types import interrupt

from rlm_adapters.effects import Steps, Wait, run_coroutine
from rlm_adapters.errors import InputError
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.ownership import is_saved
from rlm_adapters.prompts import cut_middle
from rlm_adapters.replies.syntax import undisturbed

DecisionType: TypeAlias = Literal["approve", "approve_all", "edit", "reject"]
RUN_CELL: Final = "run_cell"
"""Name of the action for a cell."""

_DECISIONS: Final = get_args(DecisionType)
_WAYS: Final = (
    'answer with {"type": "approve"}, {"type": "approve_all"} for the rest of the run, {"type": "reject", "message": '
    '"why"}, or {"type": "edit", "edited_action": {"name": ..., "args": {...}}}'
)
_DESCRIBED_CHARS: Final = 4_000
_LISTED_CALLS: Final = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class ApprovalRequest:
    """A cell or a tool call that waits for approval."""

    kind: Literal["cell", "tool"]
    name: str
    """``run_cell``, or the name of the tool."""
    args: Mapping[str, Any]
    """Arguments of the tool by name (or by position as ``"0"``, ``"1"``); for a cell ``{"code": ...}``."""
    calls: tuple[tuple[str, int], ...] = ()
    """Host functions that the code of a cell calls, each with its line. A loop may call one many times."""
    balance: str = ""
    """What is left of the limits, as text; empty if nothing is limited."""
    run_id: str
    depth: int
    """0 for the run that the user started, 1 for a child run."""
    iteration: int

    @property
    def code(self) -> str:
        """The code of a cell; empty for a tool."""
        return str(self.args["code"]) if self.kind == "cell" else ""


@dataclass(frozen=True, slots=True)
class Decision:
    """A decision about a request.

    Attributes:
        type: ``approve``: run it; ``approve_all``: run it and everything later in this run; ``edit``: run it with
            ``args``; ``reject``: do not run it.
        args: for ``edit``: replace the arguments of the request.
        message: for ``reject``: the reason. The root LM reads it.
    """

    type: DecisionType
    args: Mapping[str, Any] = field(default_factory=dict)
    message: str = ""


Approver: TypeAlias = Callable[[ApprovalRequest], Any]
"""A function that decides: True or ``"approve"`` runs it, False or a `Decision` of type ``reject`` does not, None or
``"ask"`` asks a person. It can be a coroutine function."""
Approve: TypeAlias = Literal["cells", "tools", "all"] | Approver


def checked_approve(value: Any) -> Approve | None:
    """Check the argument ``approve=``.

    Raises:
        InputError: it is unknown.
    """
    if value is None or value in ("cells", "tools", "all") or callable(value):
        return cast("Approve | None", value)
    raise InputError(f'approve={value!r:.80} is unknown: use "cells", "tools", "all", or a function of the request')


def both(own: Approve | None, asked: Literal["cells", "tools", "all"]) -> Approve:
    """What needs approval if both a graph and its caller ask for it. A caller can only ask for more."""
    if own is None or own == asked:
        return asked
    if not callable(own):
        return "all"
    judge = own

    def decide_both(request: ApprovalRequest) -> Any:
        given = judge(request)
        if inspect.isawaitable(given):
            return _then(given, request)
        return _stricter(given, request)

    async def _then(given: Awaitable[Any], request: ApprovalRequest) -> Any:
        return _stricter(await given, request)

    def _stricter(given: Any, request: ApprovalRequest) -> Any:
        """A decision by a person is needed also for what the function allows."""
        decision, _ = read_decision(given, request)
        allowed = decision is not None and decision.type in ("approve", "approve_all")
        return "ask" if allowed and asked in ("all", f"{request.kind}s") else given

    return decide_both


def decide(node: NodeContext, request: ApprovalRequest, config: RunnableConfig) -> Steps[Decision]:
    """Get a decision. If a person must decide, the run is interrupted here and continues here.

    Raises:
        InputError: there is no checkpointer, so nobody could answer; or the function did not return a decision.
    """
    approve = node.config.approve
    if callable(approve):
        started = node.run.ledger.seconds
        given = yield _asking(approve, request)
        node.run.ledger.restore_time(started - node.run.ledger.seconds)  # waiting does not count for time limits
        if given is not None and given != "ask":
            decision, problem = read_decision(given, request)
            if decision is None:
                raise InputError(f"approve={approve!r:.80} returned {given!r:.80}: {problem}")
            return decision
    elif approve is None or approve == ("tools" if request.kind == "cell" else "cells"):
        return Decision("approve")
    if not is_saved(config):
        raise InputError(
            f"approve={approve!r:.80} makes the run wait for a person, and nothing saves it: give a checkpointer, or "
            "make the graph part of one that has a checkpointer"
        )
    shown = as_interrupt(request)
    while True:
        decision, problem = read_decision(interrupt(shown), request)
        if decision is not None:
            return decision
        shown = {**shown, "problem": problem}  # ask again after an answer that cannot be used


def as_interrupt(request: ApprovalRequest) -> dict[str, Any]:
    """The value of the interrupt: LangChain's ``HITLRequest`` with further keys, in plain JSON types."""
    lines = [f"{name} (line {line})" for name, line in request.calls]
    described = "Run this cell?" if request.kind == "cell" else f"Call the tool {request.name}?"
    if lines:
        described += f" It calls {', '.join(lines)}."
    if request.balance:
        described += f" Left: {request.balance}."
    action = {"name": request.name, "args": dict(request.args), "description": described}
    return {
        "action_requests": [action],
        "review_configs": [{"action_name": request.name, "allowed_decisions": ["approve", "edit", "reject"]}],
        "kind": request.kind,
        "calls": [{"function": name, "line": line} for name, line in request.calls],
        "balance": request.balance,
        "run_id": request.run_id,
        "depth": request.depth,
        "iteration": request.iteration,
    }


def read_decision(given: Any, request: ApprovalRequest) -> tuple[Decision | None, str]:
    """Read the answer of a person or a function. It is untrusted data in one of several forms.

    Returns:
        The decision and "", or None and the problem with the answer.
    """
    if isinstance(given, Decision):
        given = {"type": given.type, "args": given.args, "message": given.message}
    if isinstance(given, Mapping) and isinstance(given.get("decisions"), list) and len(given["decisions"]) == 1:
        given = given["decisions"][0]
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if isinstance(given, bool):
        given = "approve" if given else "reject"
    if isinstance(given, str):
        given = {"type": given.strip().lower()}
    kind = given.get("type") if isinstance(given, Mapping) else None
    if kind not in _DECISIONS:
        return None, f"{given!r:.200} is no decision: {_WAYS}"
    if kind == "reject":
        reason = given.get("message") or given.get("reason") or ""
        return Decision("reject", message=cut_middle(str(reason), _DESCRIBED_CHARS)), ""
    if kind != "edit":
        return Decision(cast("DecisionType", kind)), ""
    args, problem = _edited(given, request)
    return (None, problem) if args is None else (Decision("edit", args), "")


def _edited(given: Mapping[Any, Any], request: ApprovalRequest) -> tuple[Mapping[str, Any] | None, str]:
    action = given.get("edited_action")
    args = action.get("args") if isinstance(action, Mapping) else given.get("args")
    if request.kind == "cell" and isinstance(given.get("code"), str):
        args = {"code": given["code"]}
    if isinstance(action, Mapping) and action.get("name", request.name) != request.name:
        return None, f"an edit cannot make {action['name']!r:.80} of {request.name!r}: {_WAYS}"
    if not isinstance(args, Mapping) or not all(isinstance(key, str) for key in args):
        return None, f"an edit needs the arguments by name: {_WAYS}"
    if request.kind == "cell" and (set(args) != {"code"} or not isinstance(args["code"], str)):
        return None, 'an edited cell is {"code": "..."}'
    return args, ""


def called_functions(code: str, names: frozenset[str]) -> tuple[tuple[str, int], ...]:
    """The functions that a cell calls, with their lines; empty if the code cannot be parsed."""
    try:
        tree = undisturbed(ast.parse, code)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()
    found = [
        (node.func.id, node.lineno)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names
    ]
    return tuple(sorted(found, key=lambda one: one[1])[:_LISTED_CALLS])


def _asking(approve: Approver, request: ApprovalRequest) -> Wait:
    def run() -> Any:
        given = approve(request)
        return run_coroutine(lambda: _awaited(given)) if inspect.isawaitable(given) else given

    async def arun() -> Any:
        # A sync function may take long, so it runs in a thread, like tools.
        asked = approve(request) if inspect.iscoroutinefunction(approve) else await asyncio.to_thread(approve, request)
        return await asked if inspect.isawaitable(asked) else asked

    return Wait(run, arun)


async def _awaited(given: Awaitable[Any]) -> Any:
    return await given
