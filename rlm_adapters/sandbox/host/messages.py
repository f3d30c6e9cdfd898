"""Check the messages of a worker. A worker that sends anything else is killed."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any, Final

from rlm_adapters.sandbox.protocol.frames import Message, ProtocolError, from_wire
from rlm_adapters.sandbox.protocol.types import CellError, VariableInfo
from rlm_adapters.sandbox.protocol.types import Final as FinalValue

_MAX_CALLS: Final = 100_000
_MAX_VARIABLES: Final = 10_000
_MAX_PATH: Final = 4_096
_MAX_NAME: Final = 200
_FINAL_FUNCTIONS: Final = frozenset({"SUBMIT", "FINAL", "FINAL_VAR", "answer"})
_ERROR_KINDS: Final = frozenset({"exception", "syntax", "policy", "cpu", "memory"})


@dataclass(frozen=True, slots=True)
class WorkerCall:
    """A call that a worker requests. It has no id yet."""

    function: str
    args: list[Any]
    kwargs: dict[str, Any]


@dataclass(frozen=True, slots=True)
class WorkerDone:
    """A worker's report of a finished cell."""

    stdout: str
    stdout_chars: int
    error: CellError | None
    final: FinalValue | None
    variables: tuple[VariableInfo, ...]
    cpu_seconds: float


def parse_calls(message: Message, offered: Collection[str]) -> list[WorkerCall]:
    """The calls of a ``call`` frame.

    Raises:
        ProtocolError: It is malformed, or calls a function that was not offered.
    """
    calls = _typed(message.get("calls"), list)
    if not 0 < len(calls) <= _MAX_CALLS:
        raise ProtocolError(f"{len(calls)} calls in one frame")
    return [parse_call(call, offered) for call in calls]


def parse_place(message: Message) -> int:
    """The place in the cell of the calls of a ``call`` frame, as a number that is equal for equal places.

    Raises:
        ProtocolError: It is malformed.
    """
    return _size(message.get("place"))


def parse_taken(message: Message) -> list[str]:
    """Keys of the answers that the cell has taken from its stock since the previous frame.

    Raises:
        ProtocolError: It is malformed.
    """
    return [_typed(key, str) for key in _typed(message.get("taken"), list)]


def parse_call(wire: object, offered: Collection[str]) -> WorkerCall:
    """One call.

    Raises:
        ProtocolError: It is malformed, or calls a function that was not offered.
    """
    call: dict[str, Any] = _typed(wire, dict)
    function = _typed(call.get("f"), str)
    if function not in offered:
        raise ProtocolError("a call of a function that was not offered")
    args = from_wire(_typed(call.get("a"), list))
    kwargs = _typed(from_wire(_typed(call.get("k"), dict)), dict)
    return WorkerCall(function, args, kwargs)


def parse_done(message: Message, *, output_chars: int) -> WorkerDone:
    """The report of a ``done`` frame.

    Raises:
        ProtocolError: It is malformed.
    """
    stdout = from_wire(_typed(message.get("stdout"), str))
    variables = _typed(message.get("variables"), list)
    cpu_seconds = _typed(message.get("cpu"), float)
    if len(stdout) > 2 * output_chars + 1_000 or len(variables) > _MAX_VARIABLES or not math.isfinite(cpu_seconds):
        raise ProtocolError("a report outside the limits of this session")
    return WorkerDone(
        stdout=stdout,
        stdout_chars=_size(message.get("stdout_chars")),
        error=_parse_error(message.get("error")),
        final=_parse_final(message.get("final")),
        variables=tuple(_parse_variable(_typed(variable, list)) for variable in variables),
        cpu_seconds=max(0.0, cpu_seconds),
    )


def parse_file_piece(message: Message) -> tuple[str, bytes] | None:
    """Path and next piece of a ``file`` frame; None for the frame that ends the files.

    Raises:
        ProtocolError: It is malformed.
    """
    if message["t"] == "end":
        return None
    if message["t"] != "file":
        raise ProtocolError("a file was expected")
    return _checked_path(from_wire(_typed(message.get("path"), str))), _typed(from_wire(message.get("data")), bytes)


def _checked_path(path: str) -> str:
    """Check that a path stays below any directory to which it is joined."""
    parts = path.split("/")
    if not path or len(path) > _MAX_PATH or "\0" in path or "\\" in path or ":" in parts[0] or ".." in parts:
        raise ProtocolError("a file with an impossible path")
    if path.startswith("/"):
        raise ProtocolError("a file with an absolute path")
    return path


def parse_failure(message: Message) -> str:
    """Why a worker gave up.

    Raises:
        ProtocolError: It is malformed.
    """
    return str(from_wire(_typed(message.get("message"), str)))[:2_000]


def _parse_error(wire: object) -> CellError | None:
    if wire is None:
        return None
    kind, name, text, line, traceback = _fields(wire, 5)
    if kind not in _ERROR_KINDS:
        raise ProtocolError("an error of an unknown kind")
    return CellError(
        kind=kind,
        type=from_wire(_typed(name, str))[:_MAX_NAME],
        message=from_wire(_typed(text, str)),
        line=None if line is None else _size(line),
        traceback=from_wire(_typed(traceback, str)),
    )


def _parse_final(wire: object) -> FinalValue | None:
    if wire is None:
        return None
    function, value, fields = _fields(wire, 3)
    if function not in _FINAL_FUNCTIONS:
        raise ProtocolError("a submission by an unknown function")
    return FinalValue(function=function, value=from_wire(value), fields=_typed(fields, bool))


def _parse_variable(wire: list[Any]) -> VariableInfo:
    name, kind, size = _fields(wire, 3)
    return VariableInfo(
        name=from_wire(_typed(name, str))[:_MAX_NAME],
        type=from_wire(_typed(kind, str))[:_MAX_NAME],
        size=None if size is None else _size(size),
    )


def _fields(wire: object, count: int) -> list[Any]:
    fields: list[Any] = _typed(wire, list)
    if len(fields) != count or not (fields[0] is None or type(fields[0]) is str):
        raise ProtocolError("a record with the wrong fields")
    return fields


def _size(value: object) -> int:
    size: int = _typed(value, int)
    if size < 0 or size.bit_length() > 63:
        raise ProtocolError("a size that is none")
    return size


def _typed(value: Any, kind: type) -> Any:
    if type(value) is not kind:
        raise ProtocolError(f"a {kind.__name__} was expected")
    return value
