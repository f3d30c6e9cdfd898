"""Stream-ahead: start sub-calls of a cell while the root LM is still writing it.

The root LM's reply is streamed. When statements of its first cell are complete, the run's session finds their LM calls
in a copy of the REPL, and these calls are made at once. Then the reply runs as usual: the answers for its cell are
there, or on the way (`EarlyCalls.join`).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import replace
from typing import Any, Final

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Starter, Steps, starter, wait_for_future
from rlm_adapters.errors import RLMError
from rlm_adapters.graph.calls import LLM_QUERY, SubCall
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.early import EarlyCall
from rlm_adapters.graph.journal import position
from rlm_adapters.graph.recurse import ask_sub_lm
from rlm_adapters.graph.state import FORM, RecurseInput, RLMState
from rlm_adapters.graph.stored import Stored
from rlm_adapters.models.listening import Listener, can_be_heard, listened
from rlm_adapters.models.targets import ChatTarget, quiet
from rlm_adapters.models.usage import Usage
from rlm_adapters.replies.unfinished import beginning_of, what_is_new
from rlm_adapters.sandbox import Answer, HostCall, Session, Value
from rlm_adapters.values.answers import to_plain

_MOST_LOOKS: Final = 30
"""Most looks at one reply."""
_LONG_LOOK: Final = 0.3
"""If a look takes more seconds, there are no more looks, because the cell would have to wait for them."""


def hear_root(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[StreamAhead | None]:
    """Start to listen to the root LM's next reply; None: do not listen to it."""
    made = node.config
    target = made.writer.target
    if (
        made.parallel != "stream"
        or made.approve is not None  # nothing may happen before the cell is approved
        or not node.may_call
        or not isinstance(target, ChatTarget)
        or not can_be_heard(target.model)
        or not node.run.ahead.enabled
        or node.run.ledger.room_ahead() == 0
        or not node.run.early.is_due()
    ):
        return None
    start: Starter = yield starter()
    return StreamAhead(state, node, config, start)


class StreamAhead:
    """Looks ahead at one reply. The looks run in threads of the sandbox, one at a time.

    Args:
        state: of the run.
        node: the node that calls the root LM.
        config: of the node.
        start: makes the calls.
    """

    def __init__(self, state: RLMState, node: NodeContext, config: RunnableConfig, start: Starter) -> None:
        self._node, self._start = node, start
        self._run_id, self._iteration = state["run_id"], (state.get("iterations") or 0) + 1
        self._place = position(state.get("cells") or ())
        self._task: RecurseInput = {
            "form": FORM,
            "requests": [],
            "run_id": self._run_id,
            "iteration": self._iteration,
            "variables": state["variables"],
            "query": state["query"],
        }
        self._lock = threading.Lock()
        self._pieces: list[str] = []
        self._dirty = self._ended = False
        self._open = True
        self._looking: Future[None] | None = None
        self._session: Session | None = None
        self._seen, self._seen_code = 0, ""
        self._again, self._again_helps = False, True
        self._looks = 0
        self._most = node.run.ledger.room_ahead()
        self._asked: dict[str, EarlyCall] = {}
        self._answers: dict[str, Answer] = {}
        self._quiet = quiet(config)
        self.config: Final = listened(config, Listener(self._begin, self._add))
        """Config for the call of the root LM."""
        node.run.early.begin(self._run_id, self.abandon)

    # -- the streamed reply

    def _begin(self) -> None:
        with self._lock:
            self._pieces.clear()

    def _add(self, piece: str) -> None:
        with self._lock:
            fresh = "\n" in piece or (bool(self._pieces) and self._pieces[-1].endswith("\n"))
            self._pieces.append(piece)
            if fresh:
                self._look_soon()

    def _look_soon(self) -> None:
        """Start a look now, or after the current one. Called with the lock."""
        if self._ended or not self._open:
            return
        self._dirty = True
        if self._looking is None:
            self._looking = self._node.config.sandbox.thread_pool().submit(self._look)

    # -- the end

    def complete(self) -> Steps[None]:
        """The reply is complete: stop looking, and release the session for the cell."""
        self._node.run.early.written(self._run_id)
        looking = self._stop()
        if looking is not None:
            yield wait_for_future(looking)
        self._give_back()

    def abandon(self) -> None:
        """Stop, because nobody waits for the reply any more."""
        if self._stop() is not None and (session := self._session) is not None:
            session.kill()  # this ends the look
        else:
            self._give_back()

    def _stop(self) -> Future[None] | None:
        with self._lock:
            self._ended = True
            return self._looking

    def _give_back(self) -> None:
        with self._lock:
            session, self._session = self._session, None
        if session is None:
            return
        run, sessions = self._node.run, self._node.config.sessions
        key = run.session_key(self._run_id)
        sessions.keep(key, self._place, session)
        if self._run_id not in run.unfinished:
            sessions.discard(key)

    # -- looking

    def _look(self) -> None:
        while True:
            with self._lock:
                if self._ended or not self._open or not self._dirty:
                    self._looking = None
                    break
                self._dirty = False
                text = "".join(self._pieces)
                again, self._again = self._again, False
            try:
                self._look_at(text, again=again)
            except (RLMError, OSError):
                self._open = False  # there is no worker, or it was killed: the cell will report it
        if self._ended:
            self._give_back()

    def _look_at(self, text: str, *, again: bool) -> None:
        written = beginning_of(text)
        if written is None:
            return
        if not written.code.startswith(self._seen_code):
            self._seen = 0  # this was not the cell, or the reply has started again
        if written.count <= self._seen and not again:
            return
        new = what_is_new(written.code, 0 if again else self._seen)
        self._seen, self._seen_code = written.count, written.code
        room = self._room()
        if room <= 0:
            self._open = False
            return
        if not new or (session := self._own_session()) is None:
            return
        began = time.monotonic()
        waiting = [call for call in self._asked if call not in self._answers]
        calls, more = session.rehearse(written.code, new, most=room, answers=dict(self._answers), waiting=waiting)
        self._looks += 1
        for call in calls:
            if call.function == LLM_QUERY.name and call.id not in self._asked:
                self._make(call)
        if again and not calls:
            self._again_helps = False
        self._open = self._open and more and self._looks < _MOST_LOOKS and time.monotonic() - began < _LONG_LOOK

    def _room(self) -> int:
        account, ledger = self._node.run.ahead, self._node.run.ledger
        account.limit = ledger.room_ahead()
        room = account.room(len(self._asked))
        return room if self._most is None else min(room, self._most - len(self._asked))

    def _own_session(self) -> Session | None:
        """The run's session. It is taken while the reply is being written."""
        if self._session is not None:
            return self._session
        sessions, key = self._node.config.sessions, self._node.run.session_key(self._run_id)
        session = sessions.take(key, self._place)
        if session is None:
            opening = sessions.opening(key, self._place)
            session = None if opening is None else opening.result()
        if isinstance(session, Session):
            self._session = session
            return session
        self._open = False
        if session is not None:
            sessions.keep(key, self._place, session)
        return None

    # -- the calls

    def _make(self, call: HostCall) -> None:
        node = self._node
        made = SubCall(call.id, self._run_id, self._iteration, self._quiet)
        early = EarlyCall(call.id, made)
        if self._ended or not node.run.early.add(self._run_id, early):
            return
        self._asked[call.id] = early
        own = replace(node, content=Stored(node.run.store, self._run_id))
        work = ask_sub_lm((list(call.args), dict(call.kwargs)), self._task, own, made)
        early.started = self._start(work)
        early.started.future.add_done_callback(self._done(early))

    def _done(self, early: EarlyCall) -> Callable[[Future[tuple[Any, Usage]]], None]:
        def done(future: Future[tuple[Any, Usage]]) -> None:
            early.ended = time.monotonic()
            if future.cancelled() or future.exception() is not None:
                return
            answer = Value(to_plain(future.result()[0]))
            with self._lock:
                self._answers[early.id] = answer
                if self._again_helps and len(self._answers) == len(self._asked):
                    # Calls that need these answers can be found now.
                    self._again = True
                    self._look_soon()

        return done
