"""Errors of cells, formatted as Python does, but only with the frames of cells and their source lines."""

from __future__ import annotations

import traceback
from collections.abc import Sequence
from types import TracebackType
from typing import Final

from rlm_adapters.sandbox.language.policy import PolicyError
from rlm_adapters.sandbox.protocol.types import CellError
from rlm_adapters.sandbox.runtime.control import ControlFlow

_MAX_MESSAGE: Final = 4_000
_MAX_FRAMES: Final = 12
_NOT_RUN: Final = "Nothing of this block ran: it was checked as a whole first.\n"
"""The last line of a compile-time error. Without it the error looks like one at run time."""
_HEADER: Final = "Traceback (most recent call last):\n"


class CellSources:
    """The code of earlier cells, for the source lines in tracebacks."""

    def __init__(self) -> None:
        self._lines: dict[str, Sequence[str]] = {}

    def add(self, filename: str, code: str) -> None:
        """Remember the code of a cell."""
        self._lines[filename] = code.splitlines()

    def knows(self, filename: str) -> bool:
        """Whether this is the name of a cell."""
        return filename in self._lines

    def line(self, filename: str, number: int) -> str:
        """One line of a cell, without its indentation."""
        lines = self._lines.get(filename, ())
        return lines[number - 1].strip() if 0 < number <= len(lines) else ""


def message_of(error: BaseException) -> str:
    """``str(error)``, shortened, also if the cell's ``__str__`` raises an error."""
    try:
        text = str.__str__(str(error))
    except ControlFlow:
        raise
    except BaseException as second:  # noqa: BLE001 - code of the cell can raise anything
        text = f"<the exception's own __str__ failed: {type(second).__name__}>"
    if len(text) > _MAX_MESSAGE:
        text = f"{text[:_MAX_MESSAGE]}... [{len(text) - _MAX_MESSAGE:,} characters omitted]"
    return text


def type_name(error: BaseException) -> str:
    """The name of the exception's class."""
    return "SubCallError" if type(error).__name__ == "FailedAnswer" else type(error).__name__


def cell_frames(trace: TracebackType | None, sources: CellSources) -> list[tuple[str, int, str]]:
    """File, line and function of the frames that belong to cells, outermost first."""
    frames = []
    while trace is not None:
        code = trace.tb_frame.f_code
        if sources.knows(code.co_filename):
            frames.append((code.co_filename, trace.tb_lineno, code.co_name))
        trace = trace.tb_next
    return frames


def format_frames(frames: Sequence[tuple[str, int, str]], sources: CellSources) -> str:
    """The frames as lines of a traceback; the middle of a deep recursion is left out."""
    lines = []
    half = _MAX_FRAMES // 2
    for index, (filename, number, function) in enumerate(frames):
        if len(frames) > _MAX_FRAMES and half <= index < len(frames) - half:
            if index == half:
                lines.append(f"  ... [{len(frames) - 2 * half} frames omitted]\n")
            continue
        lines.append(f'  File "{filename}", line {number}, in {function}\n')
        if source := sources.line(filename, number):
            lines.append(f"    {source}\n")
    return "".join(lines)


def format_exception(error: BaseException, sources: CellSources) -> str:
    """The whole text, as ``traceback.format_exc`` gives it."""
    frames = format_frames(cell_frames(error.__traceback__, sources), sources)
    message = message_of(error)
    last = f"{type_name(error)}: {message}" if message else type_name(error)
    return f"{_HEADER if frames else ''}{frames}{last}\n"


def describe(error: BaseException, sources: CellSources, filename: str) -> CellError:
    """Describe an error that ended the cell ``filename``, for the host and the model."""
    if isinstance(error, PolicyError):
        return _policy_error(error, sources, filename)
    if isinstance(error, SyntaxError) and error.filename in (filename, None) and error.__traceback__ is not None:
        frames = cell_frames(error.__traceback__, sources)
        if not frames:
            return _syntax_error(error, sources, filename)
    frames = cell_frames(error.__traceback__, sources)
    lines = [number for name, number, _ in frames if name == filename]
    kind = "memory" if isinstance(error, MemoryError) else "exception"
    text = format_exception(error, sources)
    return CellError(kind, type_name(error), message_of(error), lines[-1] if lines else None, text)


def _policy_error(error: PolicyError, sources: CellSources, filename: str) -> CellError:
    blocks = []
    for violation in error.violations[:5]:
        blocks.append(f'  File "{filename}", line {violation.line}\n')
        if source := sources.line(filename, violation.line):
            blocks.append(f"    {source}\n")
        blocks.append(f"PolicyError: {violation.message}\n")
    blocks.append(_NOT_RUN)
    first = error.violations[0]
    return CellError("policy", "PolicyError", first.message, first.line, "".join(blocks))


def _syntax_error(error: SyntaxError, sources: CellSources, filename: str) -> CellError:
    line = error.lineno
    name = type(error).__name__
    text = f"{name}: {error.msg}\n" if line is None else "".join(traceback.format_exception_only(error))
    message = error.msg or message_of(error)
    hint = _syntax_hint(sources.line(filename, line or 0))
    if hint:
        message, text = f"{message} ({hint})", f"{text.rstrip()} ({hint})\n"
    return CellError("syntax", name, message, line, text + _NOT_RUN)


def _syntax_hint(line: str) -> str:
    if line.startswith(("!", "%")):
        return "shell commands and notebook magics are not available here; write Python"
    if line.startswith("```"):
        return "the code contains a Markdown fence"
    return ""
