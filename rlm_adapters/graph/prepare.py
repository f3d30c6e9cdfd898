"""First node: prepare everything that the run needs."""

from __future__ import annotations

import random
import time
import uuid
from typing import Any, Final

from langchain_core.runnables import RunnableConfig

from rlm_adapters.effects import Steps, off_loop
from rlm_adapters.graph.context import NodeContext
from rlm_adapters.graph.memory import closed, current, described
from rlm_adapters.graph.requests import pack_input
from rlm_adapters.graph.state import FORM, Question, RLMState
from rlm_adapters.values.refs import ContentRef, is_ref

_GIVEN: Final = ("query", "context", "inputs", "files", "instructions", "described")


def prepare(state: RLMState, node: NodeContext, config: RunnableConfig) -> Steps[dict[str, Any]]:  # noqa: ARG001
    """Turn the input into variables by reference, and start the counts.

    With a checkpointer, a thread can get further questions: its cells and inputs stay (see `memory`), and the counts
    start from zero.
    """
    packed: dict[str, Any] = {key: state.get(key) for key in _GIVEN}
    names = node.config.writer.variable_names
    if not (packed["described"] and isinstance(packed["described"], bytes)):
        # The input did not come through `RLMGraph`: somebody wrote it into the state.
        given = {**packed, "described": None}
        packed = yield off_loop(lambda: pack_input(given, node.run.store, node.config.tools, node.config.writer))
    yield from node.content.load(packed["query"])
    variables = dict(packed["inputs"])
    if packed["context"] is not None:
        variables = {names.get("context", "context"): packed["context"], **variables}
    if "query" in names:
        variables[names["query"]] = packed["query"]
    remembered = closed(state, node.content) if node.config.remember else []
    now = time.time()
    asked: Question = {
        "query": packed["query"],
        "after": len(state["cells"]) if remembered else 0,
        "epoch": now,
        "variables": variables,
        "files": packed["files"],
        "described": packed["described"].decode(),
    }
    questions = [*remembered, asked]
    variables, files = current(questions, "variables"), current(questions, "files")
    run_id = uuid.uuid4().hex
    node.attach(run_id)
    node.emit(
        "run_started",
        run_id,
        id=run_id,
        parent=node.parent_call,
        query=node.content.read(packed["query"]),
        inputs=[{"name": one.name, "type": one.type, "size": one.size} for one in described(questions)],
        model=node.config.writer.target.name,
        sub_model=node.config.sub.name,
        max_iterations=node.config.limits.max_iterations,
        limits=node.config.limits.given(),
    )
    return {
        # `questions` has the inputs of the question; here they would be saved twice.
        "query": packed["query"],
        "instructions": packed["instructions"],
        "described": b"",
        "context": None,
        "inputs": {},
        "files": files,
        "form": FORM,
        "run_id": run_id,
        "seed": state["seed"] if remembered else random.getrandbits(31),
        "epoch": state["epoch"] if remembered else now,
        "questions": questions,
        "variables": variables,
        "file_sizes": {name: _bytes(value) for name, value in files.items()},
        "turns": None,
        **({} if remembered else {"cells": None}),
        "answers": None,
        "usage": None,
        "folded": 0,
        "names": list(dict.fromkeys([*(state["names"] if remembered else ()), *variables])),
        "reply": None,
        "queue": [],
        "pending": [],
        "outputs": [],
        "submitted": None,
        "updates": None,
        "approved": None,
        "iterations": 0,
        "repairs": 0,
        "seconds": 0.0,
        "candidate": None,
        "confirmations": 0,
        "asked": {},
        "stop": None,
        "answer": None,
        "finish_reason": None,
        "error": None,
    }


def _bytes(value: Any) -> int:
    return ContentRef.from_state(value).size if is_ref(value) else len(value)
