"""The file of results: a line for each finished task, added at its end; a second start goes on from it."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Final, Self

from rlm_adapters.errors import InputError
from rlm_adapters.models.usage import Usage, check_usage
from rlm_adapters.values.lines import LinesFile, json_object

_FORM: Final = 1
_SHOWN: Final = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What became of a task under a setting.

    Attributes:
        setting: key of the setting.
        task: id of the task.
        family: of the task.
        size: of its context, in bytes.
        answer: as it was given, plain JSON; None: there is none.
        expected: the right answer.
        correct: the answer is right.
        score: from 0 to 1.
        why: what is wrong with the answer.
        finish_reason: as in the graph's output; of a call that failed, the kind of the failure.
        error: what the run or the call says of its failure.
        usage: of the whole tree of calls.
        iterations: turns of the root LM.
        seconds: of wall time.
        trace: name of the trace's file.
        void: the task was not answered for a reason that is not the model's (its server failed, or the evaluation's
            budget ended): it counts for the budget only, and is asked again.
    """

    setting: str
    task: str
    family: str
    size: int
    answer: Any = None
    expected: Any = None
    correct: bool = False
    score: float = 0.0
    why: str = ""
    finish_reason: str = ""
    error: str | None = None
    usage: Usage = field(default_factory=dict)
    iterations: int = 0
    seconds: float = 0.0
    trace: str | None = None
    void: bool = False

    @property
    def key(self) -> tuple[str, str]:
        """Setting and task: asked once."""
        return self.setting, self.task

    def line(self) -> bytes:
        """As a line of JSON."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "setting": (str,), "task": (str,), "family": (str,), "size": (int,), "correct": (bool,), "score": (int, float),
    "why": (str,), "finish_reason": (str,), "error": (str, type(None)), "usage": (dict,), "iterations": (int,),
    "seconds": (int, float), "trace": (str, type(None)), "void": (bool,),
}  # fmt: skip


class ResultsFile:
    """A file of results that this process alone writes.

    All methods may block, and may be called in any thread.

    Args:
        path: of the file.
        asked: models and limits: results of other ones never stand in the same file.

    Raises:
        InputError: it cannot be written, another process writes it, it was begun with something else, or a line of it
            is no result.
    """

    def __init__(self, path: str | os.PathLike[str], asked: Mapping[str, Any]) -> None:
        self.path = Path(path)
        head = {"form": _FORM, "asked": json.loads(json.dumps(dict(asked), default=str))}
        self._file = LinesFile.open(self.path)
        try:
            self.results = self._begin(head)
        except BaseException as error:
            self._file.close()
            if isinstance(error, OSError):
                raise InputError(f"{self.path}: {error.strerror}; give a file that can be written") from error
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, result: Result) -> None:
        """Add a result.

        Raises:
            OutputError: it cannot be written; the results before are there.
        """
        self._file.append(result.line())
        self.results.append(result)

    def close(self) -> None:
        """Bring all to the disk, and give the file free."""
        self._file.close()

    def _begin(self, head: Mapping[str, Any]) -> list[Result]:
        """Read what is there, without a line that a killed process had half written."""
        first = next((line for _, line in self._file.lines()), b"")
        if first.endswith(b"\n"):
            self._check_head(first, head)
        elif first and not first.startswith(b'{"form"'):
            raise InputError(f"{self.path} is no file of results: give another one")
        self._file.repair(_read)
        if self._file.is_empty:
            self._file.append(json.dumps(head).encode() + b"\n")
        lines = self._file.lines()
        next(lines)
        return [_read(line, f"{self.path}, line {number}") for number, line in lines]

    def _check_head(self, line: bytes, head: Mapping[str, Any]) -> None:
        try:
            before = json.loads(line)
        except (ValueError, RecursionError):
            before = None
        if not (isinstance(before, dict) and isinstance(before.get("asked"), dict)) or before.get("form") != _FORM:
            raise InputError(f"{self.path} is no file of results: give another one")
        was, now = before["asked"], head["asked"]
        for name in dict.fromkeys((*now, *was)):
            if was.get(name) != now.get(name):
                raise InputError(
                    f"{self.path} was begun with {name}={str(was.get(name))[:_SHOWN]!r}, and now it is "
                    f"{str(now.get(name))[:_SHOWN]!r}: give the same, or another file"
                )


def _read(line: bytes, place: str) -> Result:
    """A result that was written before."""
    remedy = "remove this line, and its task is asked again"
    record = json_object(line, place, what="result", remedy=remedy)
    for name, types in _TYPES.items():
        value = record.get(name)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise InputError(f"{place}: {name}={str(value)[:_SHOWN]!r} is none: {remedy}")
    try:
        check_usage(record["usage"])
    except InputError as wrong:
        raise InputError(f"{place}: {wrong}") from None
    return Result(**{one.name: record[one.name] for one in fields(Result) if one.name in record})
