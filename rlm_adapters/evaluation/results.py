"""The file of results: it gets a line for each finished task, and a second start continues it."""

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
    """The result of a task in a setting.

    Attributes:
        setting: key of the setting.
        task: id of the task.
        family: family of the task.
        size: size of its context, in bytes.
        answer: the given answer, plain JSON; None: there is none.
        expected: the right answer.
        correct: whether the answer is right.
        score: from 0 to 1.
        why: what is wrong with the answer.
        finish_reason: as in the graph's output; for a failed call the kind of the failure.
        error: message of the failure.
        usage: usage of the whole call tree.
        iterations: turns of the root LM.
        seconds: wall time.
        trace: name of the trace file.
        void: the task has no answer although the model did not fail: its server failed, or the budget of the
            evaluation was used. Its cost counts for the budget, and it is asked again.
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
        """Setting and task. Each pair is asked once."""
        return self.setting, self.task

    def line(self) -> bytes:
        """The result as a line of JSON."""
        return json.dumps(asdict(self), default=str).encode() + b"\n"


_TYPES: Final[Mapping[str, tuple[type, ...]]] = {
    "setting": (str,), "task": (str,), "family": (str,), "size": (int,), "correct": (bool,), "score": (int, float),
    "why": (str,), "finish_reason": (str,), "error": (str, type(None)), "usage": (dict,), "iterations": (int,),
    "seconds": (int, float), "trace": (str, type(None)), "void": (bool,),
}  # fmt: skip


class ResultsFile:
    """A file of results. Only this process writes it.

    All methods may block, and can be called from any thread.

    Args:
        path: of the file.
        asked: models and limits. The results of other models or limits need another file.

    Raises:
        InputError: the file cannot be written, another process writes it, it was started with other settings, or a
            line is not a result.
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
            OutputError: it cannot be written. Earlier results are kept.
        """
        self._file.append(result.line())
        self.results.append(result)

    def close(self) -> None:
        """Write everything to the disk, and release the file."""
        self._file.close()

    def _begin(self, head: Mapping[str, Any]) -> list[Result]:
        """Read the results in the file, without the incomplete line of a killed process."""
        first = next((line for _, line in self._file.lines()), b"")
        if first.endswith(b"\n"):
            self._check_head(first, head)
        elif first and not first.startswith(b'{"form"'):
            raise InputError(f"{self.path} is not a file of results: give another file")
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
            raise InputError(f"{self.path} is not a file of results: give another file")
        was, now = before["asked"], head["asked"]
        for name in dict.fromkeys((*now, *was)):
            if was.get(name) != now.get(name):
                raise InputError(
                    f"{self.path} was started with {name}={str(was.get(name))[:_SHOWN]!r}, and now it is "
                    f"{str(now.get(name))[:_SHOWN]!r}: give the same, or another file"
                )


def _read(line: bytes, place: str) -> Result:
    """Read a result from a line."""
    remedy = "remove this line, and its task is asked again"
    record = json_object(line, place, what="result", remedy=remedy)
    for name, types in _TYPES.items():
        value = record.get(name)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            raise InputError(f"{place}: {name}={str(value)[:_SHOWN]!r} is wrong: {remedy}")
    try:
        check_usage(record["usage"])
    except InputError as wrong:
        raise InputError(f"{place}: {wrong}") from None
    return Result(**{one.name: record[one.name] for one in fields(Result) if one.name in record})
