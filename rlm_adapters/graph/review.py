"""Ask for approval in the nodes, before a cell starts and before a tool is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps
from rlm_adapters.graph.approval import RUN_CELL, ApprovalRequest, called_functions, decide
from rlm_adapters.graph.calls import bind, host_functions
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.state import CellOutput, PackedText, RecurseInput, RLMState
from rlm_adapters.graph.tool_results import ToolFailedError
from rlm_adapters.graph.tools import Tool

_NO_REASON: Final = "no reason was given"


def review_cell(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[tuple[PackedText, dict[str, Any]]]:
    """Ask for approval of the next cell.

    Returns:
        The cell to run, packed, and the changes of the state. They have ``outputs`` if the cell must not run.
    """
    packed = state["queue"][0]
    yield from node.content.load(packed)
    code = node.content.read(packed)
    names = frozenset(function.name for function in host_functions(node))
    request = ApprovalRequest(
        kind="cell",
        name=RUN_CELL,
        args={"code": code},
        calls=called_functions(code, names),
        **_asker(node, state["run_id"], state["iterations"]),
    )
    decision = yield from decide(node, request, config)
    if decision.type == "reject":
        output: CellOutput = {
            "stdout": "",
            "chars": 0,
            "error": f"Not approved, so this block did not run: {decision.message or _NO_REASON}",
            "replaced": False,
            "refused": True,
        }
        return packed, {"outputs": [*(state.get("outputs") or ()), output]}
    if decision.type == "edit":
        return node.content.write(decision.args["code"]), {}
    return packed, {"approved": True} if decision.type == "approve_all" else {}


def review_tool(
    tool: Tool,
    given: tuple[Sequence[Any], Mapping[str, Any]],
    task: RecurseInput,
    node: NodeContext,
    config: RunnableConfig,
) -> Steps[tuple[Sequence[Any], Mapping[str, Any], bool]]:
    """Ask for approval of a tool call.

    Args:
        tool: the tool.
        given: its arguments by position and by name.
        task: of the call.
        node: of the call.
        config: of the node.

    Returns:
        The arguments for the call, and whether the rest of the run was approved.

    Raises:
        ToolFailedError: it was not approved.
    """
    args, kwargs = given
    names = tool.parameters or [str(place) for place in range(len(args))]
    request = ApprovalRequest(
        kind="tool",
        name=tool.name,
        args=bind(names, args, kwargs),
        **_asker(node, task["run_id"], task["iteration"]),
    )
    decision = yield from decide(node, request, config)
    if decision.type == "reject":
        raise ToolFailedError(f"{tool.name}() was not approved: {decision.message or _NO_REASON}")
    if decision.type != "edit":
        return args, kwargs, decision.type == "approve_all"
    edited = dict(decision.args)
    places = [] if tool.parameters else [edited.pop(name) for name in names if name in edited]
    return places, edited, False


def _asker(node: NodeContext, run_id: str, iteration: int) -> dict[str, Any]:
    """The run of the request, and what is left of its limits."""
    balance = node.run.ledger.balance().describe(sub_calls=node.may_call)
    return {"balance": balance, "run_id": run_id, "depth": node.depth, "iteration": iteration}
