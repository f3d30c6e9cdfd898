"""Third node: run the cells of a reply, or go on with the one that waited for answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sized
from typing import Any

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps, Wait
from rlm_adapters.graph.asking import root_call_id
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.cures import count_asked, tiny_calls
from rlm_adapters.graph.journal import from_answer_record, position, to_entry
from rlm_adapters.graph.opening import opened
from rlm_adapters.graph.review import review_cell
from rlm_adapters.graph.state import CellOutput, Request, RLMState
from rlm_adapters.graph.stored import Stored
from rlm_adapters.models.usage import Usage, add_usage
from rlm_adapters.prompts import cut_middle
from rlm_adapters.sandbox import (
    Answer,
    Done,
    ExecutorSession,
    HostCall,
    Pending,
)


def execute(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:
    """Run cells until one waits, fails, submits, needs approval, or none is left."""
    run_id, iteration = state["run_id"], state["iterations"]
    node.attach(run_id, state.get("usage"), state.get("seconds"))
    content = node.content
    queue = list(state.get("queue") or ())
    if not queue:
        return {"pending": [], "seconds": node.run.ledger.seconds}
    outputs: list[CellOutput] = list(state.get("outputs") or ())
    update: dict[str, Any] = {}
    review = node.config.approve is not None and not state.get("approved")
    if review and not state.get("pending"):
        queue[0], update = yield from review_cell(state, node, config)
        if "outputs" in update:
            return {**update, "queue": [], "pending": [], "seconds": node.run.ledger.seconds}
        review = not update.get("approved")
    stored = state.get("answers") or {}
    yield from content.load(queue, stored)
    answers = {key: from_answer_record(record, content.read) for key, record in stored.items()}
    suspended = bool(state.get("pending"))
    asked = dict(state.get("asked") or {}) if suspended else {}
    cells = list(state.get("cells") or ())
    place = position(cells, state.get("pending") or (), content.read(queue[0]))
    session = node.config.sessions.take(node.run.session_key(run_id), place)
    live = session is not None
    try:
        if session is None:
            session = yield from opened(state, node, place)
        while True:
            code = content.read(queue[0])
            if not suspended:
                reply = state.get("reply")
                thought = reply["thought"] if reply is not None and not outputs else ""
                told = {"code": code, **({"reasoning": thought} if thought else {})}
                node.run.began[run_id, cell_id(cells)] = time.monotonic()
                node.emit("code", run_id, iteration, id=cell_id(cells), parent=root_call_id(iteration), **told)
            outcome = yield from _step(session, node, code, answers, resume=suspended and live)
            if isinstance(outcome, Pending):
                pending = [_request(call, content) for call in outcome.calls]
                node.config.sessions.keep(node.run.session_key(run_id), position(cells, pending, code), session)
                _tell_calls(node, run_id, iteration, pending, parent=cell_id(cells))
                more = count_asked(asked, outcome.calls)
                if tiny_calls(asked, node) is None and (warning := tiny_calls(more, node)) is not None:
                    node.emit("warning", run_id, iteration, parent=cell_id(cells), message=warning)
                update |= {"queue": queue, "pending": pending, "asked": more}
                break
            cell, began = cell_id(cells), node.run.began.pop((run_id, cell_id(cells)), None)
            cells.append(to_entry(session.journal[-1], cells, content, stored))
            output = _output(outcome, node)
            if (note := tiny_calls(asked, node)) is not None:
                output["note"] = note
            asked = {}
            outputs.append(output)
            suspended = False
            answers, stored = {}, {}
            node.emit(
                "cell_output",
                run_id,
                iteration,
                id=cell,
                parent=root_call_id(iteration),
                stdout=content.read(output["stdout"]),
                stdout_chars=output["chars"],
                error=output["error"],
                replaced=output["replaced"],
                seconds=outcome.cpu_seconds,
                wall=None if began is None else time.monotonic() - began,
            )
            update["names"] = sorted({*state["variables"], *(one.name for one in outcome.variables)})
            if outcome.ahead_calls:
                update["usage"] = add_usage(update.get("usage"), _ahead_usage(node, outcome))
                _tell_waste(node, run_id, iteration, outcome)
            queue.pop(0)
            if outcome.final is not None:
                update["submitted"] = {"function": outcome.final.function, "value": content.write(outcome.final.value)}
            ended = outcome.final is not None or outcome.error is not None
            if ended or review or not queue:
                node.config.sessions.keep(node.run.session_key(run_id), position(cells), session)
                update |= {"queue": [] if ended else queue, "pending": []}  # the next one has to be approved first
                break
    except TimeoutError:
        # The run's time is over in the middle of a cell: what was finished before stands.
        if session is not None:
            session.kill()
        update |= {"queue": [], "pending": [], "stop": "max_seconds"}
    except BaseException:
        if session is not None:
            session.close()
        raise
    if finished := cells[len(state.get("cells") or ()) :]:
        update |= {"cells": finished, "answers": None}
    return {**update, "outputs": outputs, "seconds": node.run.ledger.seconds}


def cell_id(finished: Sized) -> str:
    """The id, in events, of the cell after those that are finished; ids of its calls begin with the same number."""
    return f"cell-{len(finished)}"


def _step(
    session: ExecutorSession, node: NodeContext, code: str, answers: Mapping[str, Answer], *, resume: bool
) -> Steps[Pending | Done]:
    node.run.ahead.limit = node.run.ledger.room_ahead()
    left = node.run.ledger.seconds_left()
    timeout = None if left is None else max(0.001, left)
    if resume:
        outcome: Pending | Done = yield Wait(lambda: session.resume(answers), lambda: session.aresume(answers), timeout)
    else:
        outcome = yield Wait(
            lambda: session.start(code, answers=answers), lambda: session.astart(code, answers=answers), timeout
        )
    return outcome


def _output(done: Done, node: NodeContext) -> CellOutput:
    """What the root LM is to see of a finished cell."""
    error = None
    if done.error is not None:
        error = done.error.traceback or f"{done.error.type}: {done.error.message}"
    return {
        "stdout": node.content.write(cut_middle(done.stdout, node.config.limits.max_output_chars)),
        "chars": done.stdout_chars,
        "error": error,
        "replaced": done.replaced,
    }


def _request(call: HostCall, content: Stored) -> Request:
    return {
        "id": call.id,
        "function": call.function,
        "args": content.write(list(call.args)),
        "kwargs": content.write(dict(call.kwargs)),
        "ahead": call.ahead,
    }


def _tell_calls(node: NodeContext, run_id: str, iteration: int, pending: list[Request], *, parent: str) -> None:
    by_function: dict[str, list[Request]] = {}
    for request in pending:
        by_function.setdefault(request["function"], []).append(request)
    for function, requests in by_function.items():
        node.emit(
            "calls_started",
            run_id,
            iteration,
            parent=parent,
            function=function,
            count=len(requests),
            ahead=sum(request["ahead"] for request in requests),
        )


def _tell_waste(node: NodeContext, run_id: str, iteration: int, done: Done) -> None:
    """Say so when this cell has brought the share of calls made in vain over the limit."""
    account = node.run.ahead
    if done.ahead_wasted and account.stopped:
        node.emit(
            "warning",
            run_id,
            iteration,
            message=f"{account.wasted} of {account.calls} sub-calls made ahead were never used: "
            "from here on this run makes its sub-calls one after the other",
        )


def _ahead_usage(node: NodeContext, done: Done) -> Usage:
    usage: Usage = {"ahead_calls": done.ahead_calls, "ahead_wasted": done.ahead_wasted}
    node.run.ledger.book(dict(usage))
    return usage
