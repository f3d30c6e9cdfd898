"""Open the session for a run's cells at the position of the state, if possible before it is needed."""

from __future__ import annotations

import weakref
from contextlib import ExitStack
from typing import Any

from rlm_adapters.effects import Steps, wait_for_future
from rlm_adapters.errors import InputError
from rlm_adapters.graph.calls import host_functions
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.journal import from_entry, position
from rlm_adapters.graph.memory import rounds
from rlm_adapters.graph.sessions import close_when_open
from rlm_adapters.graph.state import Question, RLMState
from rlm_adapters.sandbox import ExecutorSession, FileVariable, LaterInputs
from rlm_adapters.values.content import OwnedStore
from rlm_adapters.values.refs import ContentRef, Packed, is_ref


def open_early(state: RLMState, node: NodeContext) -> None:
    """Start to open the session for the next cell, while the root LM writes the cell."""
    place = position(state.get("cells") or ())
    pool = node.config.sandbox.thread_pool()
    node.config.sessions.open_early(node.run.session_key(state["run_id"]), place, lambda: _open(state, node), pool)


def opened(state: RLMState, node: NodeContext, place: str) -> Steps[ExecutorSession]:
    """The session that was started early, or a new one. After a cancellation it is closed when it opens."""
    future = node.config.sessions.opening(node.run.session_key(state["run_id"]), place)
    if future is None:
        future = node.config.sandbox.thread_pool().submit(_open, state, node)
    try:
        session: ExecutorSession = yield wait_for_future(future)
    except BaseException:
        close_when_open(future)
        raise
    return session


def _open(state: RLMState, node: NodeContext) -> ExecutorSession:
    """A session at the position of the state: a new worker that has replayed the journal."""
    store, config = node.run.store, node.config
    first, *later = rounds(state)
    fields = config.output.fields
    plain = ExitStack()  # unsealed content in memory, while the session may need to load it again
    session = config.sandbox.open(
        variables=_variables(first, store, plain),
        files=_files(first, store),
        functions=host_functions(node),
        output_fields=fields or None,
        seed=state["seed"],
        epoch=state["epoch"],
        journal=[from_entry(entry, store) for entry in state.get("cells") or ()],
        ahead=node.run.ahead,
        scope=node.run.scope,
        **({"later": [_later(one, store, plain) for one in later]} if later else {}),
    )
    weakref.finalize(session, plain.close)
    return session


def _later(question: Question, store: OwnedStore, plain: ExitStack) -> LaterInputs:
    return LaterInputs(
        after=question["after"],
        variables=_variables(question, store, plain),
        files=_files(question, store),
        epoch=question["epoch"],
    )


def _variables(question: Question, store: OwnedStore, plain: ExitStack) -> dict[str, Any]:
    return {name: _variable(value, store, plain) for name, value in question["variables"].items()}


def _files(question: Question, store: OwnedStore) -> dict[str, Any]:
    return {name: _file(value, store) for name, value in question["files"].items()}


def _variable(value: Packed, store: OwnedStore, plain: ExitStack) -> Any:
    if not is_ref(value):
        return value
    ref = ContentRef.from_state(value)
    if (kept := store.store.kept(ref)) is not None:
        return kept
    if not ref.cipher:
        return FileVariable(path=store.store.path(ref), kind=ref.kind, chars=ref.size)
    if ref.kind == "json":
        return store.store.get(ref)
    return FileVariable(path=plain.enter_context(store.store.open_plain(ref)).fileno(), kind=ref.kind, chars=ref.size)


def _file(value: Packed, store: OwnedStore) -> Any:
    """A file of the workspace: the path of a stored file, else its bytes. A text from a client is never a path."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace")
    if not is_ref(value):
        raise InputError(f"the state's 'files' were edited: a file is text, not a {type(value).__name__}")
    ref = ContentRef.from_state(value)
    return store.store.get(ref) if ref.cipher or store.store.kept(ref) is not None else store.store.path(ref)
