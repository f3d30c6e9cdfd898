"""The journal of a session: ids of calls, hashes of outputs, and its form as JSON.

A worker is only a cache. Running the finished cells again in a new worker, with the answers that they got, gives the
same namespace. For this, hash seed, random seed and clock are fixed, an answer is found by an id that depends on the
call, and a hash of the output shows whether a replay differs.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.protocol.frames import from_wire, to_plain, to_wire
from rlm_adapters.sandbox.protocol.types import Answer, CellError, CellRecord, Failure, HostCall, Value

_ADDRESS: Final = re.compile(r" at 0x[0-9a-fA-F]+")


def output_hash(stdout: str, error: CellError | None = None) -> str:
    """SHA-256 of a cell's output, and of the type and line of its error.

    Addresses in default reprs are removed, because they differ between processes. The text of an error is left out,
    because it differs between versions of Python.
    """
    shown = _ADDRESS.sub(" at 0x...", stdout)
    if error is not None:
        shown += f"\0{error.type}:{error.line}"
    return hashlib.sha256(shown.encode("utf-8", "surrogatepass")).hexdigest()


class CallKeys:
    """Makes the keys of one cell's calls, in the order of the calls."""

    def __init__(self) -> None:
        self._seen: Counter[str] = Counter()

    def call(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
        """The key of the next call: ``"<hash of function and arguments>:<occurrence>"``."""
        return self._next(call_hash(function, args, kwargs))

    def expect(self, key: str) -> bool:
        """Count a call by its key. Returns whether it can be the next call."""
        return self._next(key.rpartition(":")[0]) == key

    def _next(self, digest: str) -> str:
        occurrence = self._seen[digest]
        self._seen[digest] += 1
        return f"{digest}:{occurrence}"


class CallIds:
    """Makes the ids of one cell's calls.

    Args:
        cell: index of the cell in the journal.
    """

    def __init__(self, cell: int) -> None:
        self._prefix = f"{cell}:"
        self._keys = CallKeys()

    def call(self, function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> HostCall:
        """The next call with its id ``"<cell>:<key>"``."""
        return HostCall(self._prefix + self._keys.call(function, args, kwargs), function, tuple(args), kwargs)

    def expect(self, key: str) -> str | None:
        """Count a call by its key. Returns its id; None if it cannot be the next call."""
        return self._prefix + key if self._keys.expect(key) else None

    def key(self, call: str) -> str | None:
        """The key in an id; None if the id belongs to another cell."""
        return call.removeprefix(self._prefix) if call.startswith(self._prefix) else None


def call_hash(function: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> str:
    """The first 16 hex digits of the SHA-256 of a call."""
    text = _encode([function, list(args), dict(kwargs)])
    return hashlib.sha256(text.encode("ascii")).hexdigest()[:16]


def _bytes(value: object) -> dict[str, str]:
    if isinstance(value, bytes):
        return {"$bytes": base64.b64encode(value).decode("ascii")}
    raise TypeError(f"no hash of a value of type {type(value).__name__}")


_encode: Final = json.JSONEncoder(sort_keys=True, separators=(",", ":"), default=_bytes).encode


def check_answers(answers: Mapping[str, Answer]) -> dict[str, Answer]:
    """The answers, with their values in the exact types that are allowed in the sandbox.

    Raises:
        InputError: An answer has another type, or is not allowed in the sandbox.
    """
    return {call: check_answer(call, answer) for call, answer in answers.items()}


def check_answer(call: str, answer: Answer) -> Answer:
    """One answer of `check_answers`."""
    if isinstance(answer, Failure):
        return answer
    if not isinstance(answer, Value):
        raise InputError(f"the answer to call {call} is a {type(answer).__name__}: give Value(...) or Failure(...)")
    try:
        return Value(to_plain(answer.value))
    except (TypeError, ValueError) as error:
        raise InputError(f"the answer to call {call} cannot be handed over: {error}") from None


def answer_to_json(answer: Answer) -> dict[str, Any]:
    """An answer as JSON types."""
    if isinstance(answer, Failure):
        return {"message": answer.message, "kind": answer.kind, "retryable": answer.retryable}
    return {"value": to_wire(to_plain(answer.value))}


def answer_from_json(data: Mapping[str, Any]) -> Answer:
    """The reverse of `answer_to_json`."""
    if "value" in data:
        return Value(from_wire(data["value"], trusted=True))
    return Failure(message=data["message"], kind=data["kind"], retryable=data["retryable"])


def journal_to_json(records: Iterable[CellRecord]) -> list[dict[str, Any]]:
    """A journal as JSON types."""
    return [
        {
            "code": record.code,
            "answers": {call: answer_to_json(answer) for call, answer in record.answers.items()},
            "failed": record.failed,
            "stdout_sha256": record.stdout_sha256,
        }
        for record in records
    ]


def journal_from_json(data: Iterable[Mapping[str, Any]]) -> tuple[CellRecord, ...]:
    """The reverse of `journal_to_json`."""
    return tuple(
        CellRecord(
            code=record["code"],
            answers={call: answer_from_json(answer) for call, answer in record["answers"].items()},
            failed=record["failed"],
            stdout_sha256=record["stdout_sha256"],
        )
        for record in data
    )
