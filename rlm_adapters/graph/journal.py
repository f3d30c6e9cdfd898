"""The journal in the state: entries of finished cells, and the position of a session.

A client of a server can edit the state. `rlm_adapters.graph.shapes` checks its shape before a run continues. This
module checks the content of packed values. A value that looks like a record stays a value.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rlm_adapters.errors import InputError
from rlm_adapters.graph.state import AnswerRecord, CellEntry
from rlm_adapters.graph.stored import Stored
from rlm_adapters.sandbox import Answer, CellRecord, Failure, Value
from rlm_adapters.values.content import OwnedStore, is_small
from rlm_adapters.values.refs import ContentRef, is_ref

_REF = "ref"
"""Key in stored records: the value is stored separately. Never in the state, which a client may edit."""


def position(cells: Sequence[CellEntry], pending: Iterable[Mapping[str, Any]] = (), code: str = "") -> str:
    """The position of a session that has run these cells, and waits for these requests in a cell with this code."""
    tip = cells[-1]["tip"] if cells else ""
    waiting = ",".join(request["id"] for request in pending)
    return f"{tip}|{waiting}|{digest(code)}" if waiting else f"{tip}|"


def digest(code: str) -> str:
    """A short hash of a cell, which shows whether it was edited."""
    return hashlib.sha256(code.encode("utf-8", "surrogatepass")).hexdigest()[:16]


def to_entry(
    record: CellRecord, earlier: Sequence[CellEntry], content: Stored, stored: Mapping[str, AnswerRecord]
) -> CellEntry:
    """Make the entry of a finished cell.

    Args:
        record: of the session.
        earlier: the cells before it.
        content: of the node.
        stored: the answers in the state, so that stored values are not stored again.
    """
    tip = earlier[-1]["tip"] if earlier else ""
    parts = (tip, record.code, record.stdout_sha256, *sorted(record.answers))
    return {
        "code": content.write(record.code),
        "answers": _answers(record.answers, content, stored),
        "failed": record.failed,
        "stdout_sha256": record.stdout_sha256,
        "tip": hashlib.sha256("\0".join(parts).encode("utf-8", "surrogatepass")).hexdigest()[:32],
    }


def _answers(answers: Mapping[str, Answer], content: Stored, stored: Mapping[str, AnswerRecord]) -> Any:
    known: dict[str, bytes] = {key: record["value"] for key, record in stored.items() if is_ref(record.get("value"))}
    small = all(
        key not in known and (isinstance(answer, Failure) or is_small(answer.value)) for key, answer in answers.items()
    )
    if small:
        return content.write({key: _inline(answer) for key, answer in answers.items()})

    def make(put: Callable[[Any], ContentRef]) -> dict[str, Any]:
        records: dict[str, Any] = {}
        for key, answer in answers.items():
            if key in known:
                records[key] = {_REF: known[key].decode()}
            elif isinstance(answer, Failure) or is_small(answer.value):
                records[key] = _inline(answer)
            else:
                records[key] = {_REF: put(answer.value).to_state().decode()}
        return records

    return content.write_made(make)


def from_entry(entry: CellEntry, store: OwnedStore) -> CellRecord:
    """Inverse of `to_entry`. Reads files.

    Raises:
        InputError: the entry was edited and is not valid.
        ContentError: stored content cannot be read.
    """
    code, packed = store.unpack(entry["code"]), entry["answers"]
    records = store.unpack(packed)
    if not isinstance(code, str) or not isinstance(records, dict):
        raise _edited("a cell of the journal", "'code' is text and 'answers' a dict")
    answers: dict[str, Answer] = {}
    for key, record in records.items():
        if is_ref(packed) and set(record) == {_REF}:
            answers[key] = Value(store.store.get(ContentRef.from_state(record[_REF].encode())))
        else:
            answers[key] = from_answer_record(record, store.unpack)
    return CellRecord(code, answers, bool(entry["failed"]), str(entry["stdout_sha256"]))


def from_answer_record(record: Any, read: Callable[[Any], Any]) -> Answer:
    """The answer from a record of the state.

    Args:
        record: from the state.
        read: reads a packed value.

    Raises:
        InputError: the record was edited and is not valid.
    """
    if isinstance(record, dict) and set(record) == {"value"}:
        return Value(read(record["value"]))
    failure = record.get("failure") if isinstance(record, dict) else None
    if not isinstance(failure, dict):
        raise _edited(
            "an answer", "it is {'value': ...} or {'failure': {'message': ..., 'kind': ..., 'retryable': ...}}"
        )
    return Failure(str(failure.get("message", "")), str(failure.get("kind", "other")), failure.get("retryable") is True)


def _inline(answer: Answer) -> AnswerRecord:
    if isinstance(answer, Failure):
        return {"failure": {"message": answer.message, "kind": answer.kind, "retryable": answer.retryable}}
    return {"value": answer.value}


def _edited(what: str, remedy: str) -> InputError:
    return InputError(f"the state of this run was edited, and {what} cannot be used any more: {remedy}")
