"""Make a trajectory, in the form of `rlm_adapters.Trajectory.to_dict`, from a saved state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.graph.asking import root_call_id
from rlm_adapters.graph.context import RLMConfig
from rlm_adapters.graph.execute import cell_id
from rlm_adapters.graph.generate import cells_of
from rlm_adapters.graph.journal import from_entry
from rlm_adapters.graph.memory import described
from rlm_adapters.graph.state import Request, is_readable
from rlm_adapters.graph.telling import call_kind, what_is_asked
from rlm_adapters.models.shown import text_of
from rlm_adapters.models.targets import ModelReply
from rlm_adapters.sandbox import Answer, CellRecord, Failure
from rlm_adapters.traces.plain import FORM as TRAJECTORY_FORM
from rlm_adapters.values.content import OwnedStore

_DONE: Final = {"seconds": 0.0}  # ended, its duration is not known


def plain_trajectory(state: Mapping[str, Any], config: RLMConfig | None, store: OwnedStore) -> dict[str, Any]:
    """The trajectory of a state. Reads files.

    Args:
        state: the values of a checkpoint.
        config: of the graph; None for a graph that gets one with each call: then replies cannot be read again.
        store: of the thread.

    Raises:
        InputError: there is no run in it, or it is of another version.
        ContentError: stored content cannot be read.
    """
    if not state.get("run_id"):
        raise InputError("this thread has no run: give the config that the run was called with")
    if not is_readable(state):
        raise InputError(f"this run was saved by another version of rlm-adapters (form {state.get('form')!r})")
    return _Saved(state, config, store).trajectory()


class _Saved:
    def __init__(self, state: Mapping[str, Any], config: RLMConfig | None, store: OwnedStore) -> None:
        self._state = state
        self._config = config
        self._read = store.unpack
        self._journal = [from_entry(entry, store) for entry in state.get("cells") or ()]
        self._questions = state.get("questions") or ()
        self._told = self._questions[-1]["after"] if self._questions else 0
        """Cells of the journal that belong to an iteration, or to an earlier question of the thread."""

    def trajectory(self) -> dict[str, Any]:
        """The whole dict."""
        state, config = self._state, self._config
        models = {} if config is None else {"model": config.writer.target.name, "sub_model": config.sub.name}
        start = self._questions[-1]["epoch"] if self._questions else None
        seconds = state.get("seconds")
        ended = {key: state.get(key) for key in ("answer", "finish_reason", "error")}
        return {
            "form": TRAJECTORY_FORM,
            "run_id": state["run_id"],
            "question": self._read(state.get("query")),
            "inputs": [{"name": one.name, "type": one.type, "size": one.size} for one in described(self._questions)],
            **models,
            "limits": {} if config is None else config.limits.given(),
            "start": start,
            "end": None if start is None or seconds is None else start + seconds,
            "limit": state.get("stop"),
            "usage": dict(state.get("usage") or {}),
            "iterations": self._iterations(),
            **(ended if state.get("finish_reason") else {}),
        }

    def _iterations(self) -> list[dict[str, Any]]:
        turns = self._state.get("turns") or ()
        found = [self._turn(number, turn) for number, turn in enumerate(turns, 1)]
        reply = self._state.get("reply")
        if reply is not None:
            found.append(self._current(len(found) + 1, self._read(reply["text"])))
        elif self._told < len(self._journal) and found:
            found[-1]["cells"] += self._take(len(self._journal))  # the reply of these cells was edited
        return found

    def _turn(self, number: int, turn: Mapping[str, Any]) -> dict[str, Any]:
        """A finished turn. Its cells are those of the journal that are in its reply, in order."""
        text = self._read(turn["reply"])
        last = number == len(self._state.get("turns") or ())
        cells = self._written(text)
        count = 0
        while count < len(cells) and self._is_next(count, cells[count]):
            count += 1
        if last and self._state.get("reply") is None:
            count = len(self._journal) - self._told
        return self._iteration(number, text, count, observation=self._read(turn["observation"]))

    def _current(self, number: int, text: str) -> dict[str, Any]:
        """The current turn of the run: finished cells, and one that waits."""
        made = self._iteration(number, text, len(self._journal) - self._told)
        queue = self._state.get("queue") or ()
        if queue:
            calls = [self._waiting(request) for request in self._state.get("pending") or ()]
            made["cells"].append({"id": cell_id(self._journal), "code": self._read(queue[0]), "calls": calls})
        return made

    def _iteration(self, number: int, text: str, count: int, **more: Any) -> dict[str, Any]:
        said = text if self._config is None else self._config.writer.as_written(text)
        return {
            "id": root_call_id(number), "number": number, "reply": said, **_DONE, **more, "cells": self._take(count)
        }  # fmt: skip

    def _written(self, text: str) -> Sequence[str]:
        if self._config is None:
            return [record.code for record in self._journal[self._told : self._told + 1]]
        return cells_of(self._config.writer.read(ModelReply(text), self._state.get("names") or ()))

    def _is_next(self, count: int, code: str) -> bool:
        place = self._told + count
        return place < len(self._journal) and self._journal[place].code == code

    def _take(self, count: int) -> list[dict[str, Any]]:
        """The next cells of the journal."""
        taken = self._journal[self._told : self._told + count]
        made = [self._cell(place, record) for place, record in enumerate(taken, self._told)]
        self._told += len(taken)
        return made

    def _cell(self, place: int, record: CellRecord) -> dict[str, Any]:
        error = {"error": "it failed; the observation says how"} if record.failed else {}
        calls = [_answered(key, answer) for key, answer in record.answers.items()]
        return {"id": cell_id(self._journal[:place]), "code": record.code, "ended": True, "calls": calls, **error}

    def _waiting(self, request: Request) -> dict[str, Any]:
        kind = call_kind(request["function"])
        asked = what_is_asked(kind, self._read(request["args"]), self._read(request["kwargs"]))
        answers = self._state.get("answers") or {}
        return {
            "id": request["id"],
            "function": request["function"],
            "kind": kind,
            "prompt": text_of(asked),
            "ahead": request["ahead"],
            **(self._answer(answers[request["id"]]) if request["id"] in answers else {}),
        }

    def _answer(self, record: Mapping[str, Any]) -> dict[str, Any]:
        failure = record.get("failure")
        if failure is not None:
            return {"error": str(failure.get("message", "")), **_DONE}
        return {"answer": text_of(self._read(record.get("value"))), **_DONE}


def _answered(key: str, answer: Answer) -> dict[str, Any]:
    """A call of a finished cell. The journal has only a hash of its prompt."""
    if isinstance(answer, Failure):
        return {"id": key, "error": answer.message, **_DONE}
    return {"id": key, "answer": text_of(answer.value), **_DONE}
