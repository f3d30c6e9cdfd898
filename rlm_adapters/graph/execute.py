"""Third node: run the cells of a reply, or continue the cell that waited for answers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sized
from dataclasses import replace
from typing import Any

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps, Wait
from rlm_adapters.graph.asking import root_call_id
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.cures import count_asked, tiny_calls
from rlm_adapters.graph.early import Settled
from rlm_adapters.graph.journal import from_answer_record, position, to_entry
from rlm_adapters.graph.opening import opened
from rlm_adapters.graph.review import review_cell
from rlm_adapters.graph.state import CellOutput, Request, RLMState
from rlm_adapters.graph.stored import Stored
from rlm_adapters.models.usage import Usage, add_usage
from rlm_adapters.prompts import cut_middle
from rlm_adapters.sandbox import (
    Answer,
    CellRecord,
    Done,
    ExecutorSession,
    HostCall,
    Pending,
)


def execute(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:
    """Run cells until one waits, fails, submits or needs approval, or none is left."""
    node.attach(state["run_id"], state.get("usage"), state.get("seconds"))
    turn = _Turn(state, node)
    update: dict[str, Any] = {"pending": []}
    if turn.queue and turn.one_by_one and not turn.waited:
        turn.queue[0], reviewed = yield from review_cell(state, node, config)
        update |= reviewed
        turn.one_by_one = not reviewed.get("approved")
        if "outputs" in reviewed:
            turn.queue.clear()
            update["queue"] = []
    if turn.queue:
        update |= yield from turn.run()
    return {**update, "seconds": node.run.ledger.seconds}


class _Turn:
    """The remaining cells of one reply.

    Args:
        state: of the run.
        node: the node that runs them.
    """

    def __init__(self, state: RLMState, node: NodeContext) -> None:
        self._state, self._node = state, node
        self._run_id, self._iteration = state["run_id"], state["iterations"]
        self.queue = list(state.get("queue") or ())
        """The remaining cells, packed."""
        self.waited = bool(state.get("pending"))
        """Whether the first cell waits for answers."""
        self.one_by_one = node.config.approve is not None and not state.get("approved")
        """Whether each cell needs approval."""
        self._cells = list(state.get("cells") or ())
        self._outputs: list[CellOutput] = list(state.get("outputs") or ())
        self._asked = dict(state.get("asked") or {}) if self.waited else {}
        self._stored = state.get("answers") or {}
        self._update: dict[str, Any] = {}

    def run(self) -> Steps[dict[str, Any]]:
        """Run the cells.

        Returns:
            Changes of the state.
        """
        content, sessions, key = (
            self._node.content,
            self._node.config.sessions,
            self._node.run.session_key(self._run_id),
        )
        yield from content.load(self.queue, self._stored)
        answers: Mapping[str, Answer] = {
            name: from_answer_record(record, content.read) for name, record in self._stored.items()
        }
        place = position(self._cells, self._state.get("pending") or (), content.read(self.queue[0]))
        session = sessions.take(key, place)
        told, resume = self.waited, self.waited and session is not None
        try:
            if session is None:
                session = yield from opened(self._state, self._node, place)
            while True:
                code = content.read(self.queue[0])
                if not told:
                    self._tell_code(code)
                outcome = yield from _step(session, self._node, code, answers, resume=resume)
                if isinstance(outcome, Pending):
                    pending = self._wait(outcome)
                    sessions.keep(key, position(self._cells, pending, code), session)
                    break
                self._finish(outcome, session.journal[-1])
                if self.one_by_one or not self.queue:
                    sessions.keep(key, position(self._cells), session)
                    break
                answers, told, resume = {}, False, False
        except TimeoutError:
            # The time limit was reached in the middle of a cell: finished cells are kept.
            if session is not None:
                session.kill()
            self.queue.clear()
            self._update |= {"pending": [], "stop": "max_seconds"}
        except BaseException:
            if session is not None:
                session.close()
            raise
        if finished := self._cells[len(self._state.get("cells") or ()) :]:
            self._update |= {"cells": finished, "answers": None}
        return {**self._update, "queue": self.queue, "outputs": self._outputs}

    # -- parts

    def _tell_code(self, code: str) -> None:
        """Emit the start of a cell."""
        cell, reply = cell_id(self._cells), self._state.get("reply")
        thought = reply["thought"] if reply is not None and not self._outputs else ""
        told: dict[str, Any] = {"code": code, **({"reasoning": thought} if thought else {})}
        self._node.run.began[self._run_id, cell] = time.monotonic()
        self._node.emit("code", self._run_id, self._iteration, id=cell, parent=root_call_id(self._iteration), **told)

    def _wait(self, outcome: Pending) -> list[Request]:
        """Handle a cell that waits for answers."""
        node, cell = self._node, cell_id(self._cells)
        pending = [_request(call, node.content) for call in outcome.calls]
        _tell_calls(node, self._run_id, self._iteration, pending, parent=cell)
        asked = count_asked(self._asked, outcome.calls)
        if tiny_calls(self._asked, node) is None and (warning := tiny_calls(asked, node)) is not None:
            node.emit("warning", self._run_id, self._iteration, parent=cell, message=warning)
        self._update |= {"pending": pending, "asked": asked}
        return pending

    def _finish(self, outcome: Done, entry: CellRecord) -> None:
        """Handle a finished cell."""
        node, cell = self._node, cell_id(self._cells)
        self.queue.pop(0)
        self._cells.append(to_entry(entry, self._cells, node.content, self._stored))
        output = _output(outcome, node)
        if (note := tiny_calls(self._asked, node)) is not None:
            output["note"] = note
        self._outputs.append(output)
        self._asked, self._stored = {}, {}
        early = node.run.early.settle(self._run_id)
        self._tell_output(cell, outcome, output, early)
        self._update["names"] = sorted({*self._state["variables"], *(one.name for one in outcome.variables)})
        if early is not None:
            outcome = replace(
                outcome,
                ahead_calls=outcome.ahead_calls + early.uncounted + early.wasted,
                ahead_wasted=outcome.ahead_wasted + early.wasted,
            )
            self._update["usage"] = add_usage(self._update.get("usage"), early.usage)
            node.run.ahead.settle(early.uncounted, 0)
            tell_early_waste(node, self._run_id, self._iteration, early)
        if outcome.ahead_calls:
            usage = ahead_usage(node, outcome.ahead_calls, outcome.ahead_wasted)
            self._update["usage"] = add_usage(self._update.get("usage"), usage)
            _tell_waste(node, self._run_id, self._iteration, outcome)
        if outcome.final is not None:
            value = node.content.write(outcome.final.value)
            self._update["submitted"] = {"function": outcome.final.function, "value": value}
        if outcome.final is not None or outcome.error is not None:
            self.queue.clear()

    def _tell_output(self, cell: str, outcome: Done, output: CellOutput, early: Settled | None) -> None:
        told = {} if early is None or not early.calls else {"early": early.told()}
        began = self._node.run.began.pop((self._run_id, cell), None)
        self._node.emit(
            "cell_output",
            self._run_id,
            self._iteration,
            id=cell,
            parent=root_call_id(self._iteration),
            stdout=self._node.content.read(output["stdout"]),
            stdout_chars=output["chars"],
            error=output["error"],
            replaced=output["replaced"],
            seconds=outcome.cpu_seconds,
            wall=None if began is None else time.monotonic() - began,
            **told,
        )


def cell_id(finished: Sized) -> str:
    """The id of the next cell in events. The ids of its calls start with the same number."""
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
    """The output of a finished cell for the root LM."""
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


def tell_early_waste(node: NodeContext, run_id: str, iteration: int, early: Settled) -> None:
    """Emit a warning if this reply has brought the share of unused early calls over the limit."""
    account = node.run.early
    if early.wasted and account.stopped:
        node.emit(
            "warning",
            run_id,
            iteration,
            message=f"{account.wasted} of {account.calls} sub-calls made while the root LM was writing were never "
            "used: from here on this run makes none before a reply is complete",
        )


def _tell_waste(node: NodeContext, run_id: str, iteration: int, done: Done) -> None:
    """Emit a warning if this cell has brought the share of unused calls over the limit."""
    account = node.run.ahead
    if done.ahead_wasted and account.stopped:
        node.emit(
            "warning",
            run_id,
            iteration,
            message=f"{account.wasted} of {account.calls} sub-calls made ahead were never used: "
            "from here on this run makes its sub-calls one after the other",
        )


def ahead_usage(node: NodeContext, calls: int, wasted: int) -> Usage:
    """Add calls of run-ahead to the ledger. Returns them as usage of the run."""
    usage: Usage = {"ahead_calls": calls, "ahead_wasted": wasted}
    node.run.ledger.book(dict(usage))
    return usage
