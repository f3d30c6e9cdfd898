"""The journal in the state: what a finished cell leaves behind, and where in it a session stands."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rlm_adapters.graph.state import AnswerRecord, CellEntry
from rlm_adapters.sandbox import Answer, CellRecord, Failure, Value
from rlm_adapters.values.content import ContentStore


def position(cells: Sequence[CellEntry], pending: Iterable[Mapping[str, Any]] = ()) -> str:
    """Where a session stands that has run these cells and waits for these requests."""
    tip = cells[-1]["tip"] if cells else ""
    return tip + "|" + ",".join(request["id"] for request in pending)


def to_entry(record: CellRecord, earlier: Sequence[CellEntry], store: ContentStore) -> CellEntry:
    """The entry of a finished cell."""
    tip = earlier[-1]["tip"] if earlier else ""
    answers = {key: to_answer_record(answer, store) for key, answer in record.answers.items()}
    digest = hashlib.sha256("\0".join((tip, record.code, record.stdout_sha256, *sorted(answers))).encode()).hexdigest()
    return {
        "code": store.pack(record.code),
        "answers": store.pack(answers),
        "failed": record.failed,
        "stdout_sha256": record.stdout_sha256,
        "tip": digest[:32],
    }


def from_entry(entry: CellEntry, store: ContentStore) -> CellRecord:
    """Inverse of `to_entry`."""
    answers = {key: from_answer_record(record, store) for key, record in store.unpack(entry["answers"]).items()}
    return CellRecord(store.unpack(entry["code"]), answers, entry["failed"], entry["stdout_sha256"])


def to_answer_record(answer: Answer, store: ContentStore) -> AnswerRecord:
    """An answer for the state."""
    if isinstance(answer, Failure):
        return {"failure": {"message": answer.message, "kind": answer.kind, "retryable": answer.retryable}}
    return {"value": store.pack(answer.value)}


def from_answer_record(record: AnswerRecord, store: ContentStore) -> Answer:
    """Inverse of `to_answer_record`."""
    if "failure" in record:
        return Failure(**record["failure"])
    return Value(store.unpack(record["value"]))
