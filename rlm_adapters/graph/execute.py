"""Third node: run the cells of a reply, or go on with the one that waited for answers."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from typing import Any

from langchain_core.runnables import RunnableConfig
from langgraph.types import Overwrite, Send

from rlm_adapters.budget import Usage, add_usage
from rlm_adapters.content import ContentRef, ContentStore, Packed, is_ref
from rlm_adapters.effects import Steps, Wait
from rlm_adapters.graph.calls import LLM_QUERY, host_functions
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.cures import count_asked, tiny_calls
from rlm_adapters.graph.state import AnswerRecord, CellEntry, CellOutput, Request, RLMState
from rlm_adapters.prompts import cut_middle
from rlm_adapters.sandbox import (
    Answer,
    CellRecord,
    Done,
    ExecutorSession,
    Failure,
    FileVariable,
    HostCall,
    Pending,
    Value,
)

_CHECKPOINTER = "__pregel_checkpointer"  # where LangGraph's config holds the saver of a run (it has no public name)


def execute(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:  # noqa: ARG001
    """Run cells until one waits, fails, submits, or none is left."""
    run_id, iteration = state["run_id"], state["iterations"]
    node.attach(run_id, state.get("usage"), state.get("seconds"))
    store = node.config.store
    queue = list(state.get("queue") or ())
    if not queue:
        return {"seconds": node.run.ledger.seconds}
    entries: list[CellEntry] = []
    outputs: list[CellOutput] = list(state.get("outputs") or ())
    update: dict[str, Any] = {}
    answers = {key: _answer(record, store) for key, record in (state.get("answers") or {}).items()}
    suspended = bool(state.get("pending"))
    asked = dict(state.get("asked") or {}) if suspended else {}
    tip = _tip(state.get("cells") or ())
    session = node.config.sessions.take(run_id, _position(tip, state.get("pending") or ()))
    live = session is not None
    try:
        if session is None:
            session = yield Wait(lambda: _open(state, node), lambda: _open_async(state, node))
        while True:
            code = store.unpack(queue[0])
            if not suspended:
                reply = state.get("reply")
                thought = reply["thought"] if reply is not None and not outputs else ""
                node.emit("code", run_id, iteration, code=code, **({"reasoning": thought} if thought else {}))
            outcome = yield from _step(session, node, code, answers, resume=suspended and live)
            if isinstance(outcome, Pending):
                pending = [_request(call, store) for call in outcome.calls]
                node.config.sessions.keep(run_id, _position(tip, pending), session)
                _tell_calls(node, run_id, iteration, pending)
                more = count_asked(asked, outcome.calls)
                if tiny_calls(asked, node) is None and (warning := tiny_calls(more, node)) is not None:
                    node.emit("warning", run_id, iteration, message=warning)
                update |= {"queue": queue, "pending": pending, "asked": more}
                break
            entry, output = _finished(session, outcome, code, tip, node)
            if (note := tiny_calls(asked, node)) is not None:
                output["note"] = note
            asked = {}
            entries.append(entry)
            outputs.append(output)
            tip, suspended = entry["tip"], False
            answers = {}
            node.emit(
                "cell_output",
                run_id,
                iteration,
                stdout=store.unpack(output["stdout"]),
                stdout_chars=output["chars"],
                error=output["error"],
                replaced=output["replaced"],
                seconds=outcome.cpu_seconds,
            )
            update["names"] = sorted({*state["variables"], *(one.name for one in outcome.variables)})
            if outcome.ahead_calls:
                update["usage"] = add_usage(update.get("usage"), _ahead_usage(node, outcome))
                _tell_waste(node, run_id, iteration, outcome)
            queue.pop(0)
            if outcome.final is not None:
                update["submitted"] = {"function": outcome.final.function, "value": store.pack(outcome.final.value)}
            if outcome.final is not None or outcome.error is not None or not queue:
                node.config.sessions.keep(run_id, _position(tip, ()), session)
                update |= {"queue": [], "pending": []}
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
    if entries:
        update |= {"cells": entries, "answers": Overwrite({})}
    return {**update, "outputs": outputs, "seconds": node.run.ledger.seconds}


def after_execute(state: RLMState, config: RunnableConfig) -> list[Send] | str:
    """Where to go from `execute`: to the calls that the cell waits for, or on."""
    pending = state.get("pending")
    if not pending:
        return "check_final"
    return [
        Send(
            "recurse",
            {
                "requests": requests,
                "run_id": state["run_id"],
                "iteration": state["iterations"],
                "variables": state["variables"],
                "batch": len(pending),
            },
        )
        for requests in _tasks(pending, saved=_is_saved(config))
    ]


def _tasks(pending: list[Request], *, saved: bool) -> list[list[Request]]:
    """The requests, by the task that answers them.

    A task of its own has its answer saved as soon as it is there, and a name of its own in streams. Without a saver
    the calls to sub-LMs have nothing of this: together they cost a fraction of as many tasks.
    """
    together = [] if saved else [request for request in pending if request["function"] == LLM_QUERY.name]
    alone = [[request] for request in pending if saved or request["function"] != LLM_QUERY.name]
    return [together, *alone] if together else alone


def _is_saved(config: RunnableConfig) -> bool:
    """Whether a saver, ours or one of a graph around this one, keeps the results of single tasks."""
    return bool((config.get("configurable") or {}).get(_CHECKPOINTER))


# ------------------------------------------------------------------------------------------------ sessions


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


def _open(state: RLMState, node: NodeContext) -> ExecutorSession:
    """A session at the position of the state: a new worker, the journal replayed."""
    store, config = node.config.store, node.config
    fields = config.output.fields
    return config.sandbox.open(
        variables={name: _variable(value, store) for name, value in state["variables"].items()},
        files={name: _file(value, store) for name, value in (state.get("files") or {}).items()},
        functions=host_functions(node),
        output_fields=fields or None,
        seed=state["seed"],
        epoch=state["epoch"],
        journal=[_record(entry, store) for entry in state.get("cells") or ()],
        ahead=node.run.ahead,
    )


async def _open_async(state: RLMState, node: NodeContext) -> ExecutorSession:
    """`_open` off the event loop; a session that opens after a cancellation is closed again."""
    pool = node.config.sandbox.thread_pool()
    future = pool.submit(_open, state, node)
    try:
        return await asyncio.wrap_future(future)
    except asyncio.CancelledError:
        future.add_done_callback(lambda done: None if done.cancelled() or done.exception() else done.result().close())
        raise


def _variable(value: Packed, store: ContentStore) -> Any:
    if not is_ref(value):
        return value
    ref = ContentRef.from_state(value)
    return FileVariable(path=store.path(ref), kind=ref.kind, chars=ref.size)


def _file(value: Packed, store: ContentStore) -> Any:
    return store.path(ContentRef.from_state(value)) if is_ref(value) else value


# ------------------------------------------------------------------------------------------------ the journal


def _tip(cells: list[CellEntry] | tuple[()]) -> str:
    return cells[-1]["tip"] if cells else ""


def _position(tip: str, pending: Any) -> str:
    return tip + "|" + ",".join(request["id"] for request in pending)


def _finished(
    session: ExecutorSession, done: Done, code: str, tip: str, node: NodeContext
) -> tuple[CellEntry, CellOutput]:
    store = node.config.store
    record = session.journal[-1]
    answers = {key: _answer_record(answer, store) for key, answer in record.answers.items()}
    digest = hashlib.sha256("\0".join((tip, code, record.stdout_sha256, *sorted(answers))).encode()).hexdigest()
    entry: CellEntry = {
        "code": store.pack(code),
        "answers": store.pack(answers),
        "failed": record.failed,
        "stdout_sha256": record.stdout_sha256,
        "tip": digest[:32],
    }
    error = None
    if done.error is not None:
        error = done.error.traceback or f"{done.error.type}: {done.error.message}"
    output: CellOutput = {
        "stdout": store.pack(cut_middle(done.stdout, node.config.limits.max_output_chars)),
        "chars": done.stdout_chars,
        "error": error,
        "replaced": done.replaced,
    }
    return entry, output


def _record(entry: CellEntry, store: ContentStore) -> CellRecord:
    answers = {key: _answer(record, store) for key, record in store.unpack(entry["answers"]).items()}
    return CellRecord(store.unpack(entry["code"]), answers, entry["failed"], entry["stdout_sha256"])


def _answer(record: AnswerRecord, store: ContentStore) -> Answer:
    if "failure" in record:
        return Failure(**record["failure"])
    return Value(store.unpack(record["value"]))


def _answer_record(answer: Answer, store: ContentStore) -> AnswerRecord:
    if isinstance(answer, Failure):
        return {"failure": {"message": answer.message, "kind": answer.kind, "retryable": answer.retryable}}
    return {"value": store.pack(answer.value)}


def _request(call: HostCall, store: ContentStore) -> Request:
    return {
        "id": call.id,
        "function": call.function,
        "args": store.pack(list(call.args)),
        "kwargs": store.pack(dict(call.kwargs)),
        "ahead": call.ahead,
    }


def _tell_calls(node: NodeContext, run_id: str, iteration: int, pending: list[Request]) -> None:
    by_function: dict[str, list[Request]] = {}
    for request in pending:
        by_function.setdefault(request["function"], []).append(request)
    for function, requests in by_function.items():
        node.emit(
            "calls_started",
            run_id,
            iteration,
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
