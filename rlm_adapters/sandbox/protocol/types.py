"""Types of the data between the host and a sandbox session.

All types are plain and frozen, and use no framework. A cell runs by ``Session.start(code) -> Pending | Done`` and
``Session.resume(answers) -> Pending | Done``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Isolation: TypeAlias = Literal["os", "process"]
"""``os``: the operating system confines the worker (rlimits, Landlock, seccomp). ``process``: a separate process that
can be killed, with the limits that the platform has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Limits of one session. A cell that reaches a limit fails with an error; the host is not affected."""

    cpu_seconds: float = 60.0
    """CPU time of one cell."""
    wall_seconds: float = 300.0
    """Wall time of one cell, without the time in which it waits for the host. It is much higher than the CPU limit,
    because on a loaded machine wall time is longer than CPU time."""
    memory_bytes: int | None = None
    """Address space of the worker; None: 512 MB + 6 x the size of the inputs."""
    output_chars: int = 200_000
    """Characters of one cell's output that the worker keeps (head and tail)."""
    file_bytes: int = 64 << 20
    """Total bytes that cells can write into the in-memory file system."""
    frame_bytes: int = 256 << 20
    """Largest message from a worker that the host accepts, in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFunction:
    """A function that cells can call and the host answers."""

    name: str
    effects: bool = True
    """True: a tool, called exactly once where the cell calls it. False: an LM call without effects, which can be run
    ahead."""
    batch_of: str | None = None
    """Set for a batch form: its first argument is a list. Each item becomes one HostCall of the function ``batch_of``.
    The answers are returned as a list, in order."""
    parameters: tuple[str, ...] | None = None
    """Names of the parameters in order, with ``=`` after optional ones (``("prompt", "model=")``). The worker binds
    positional arguments to them, so that a wrong call raises TypeError in the cell. None: any arguments."""
    doc: str = ""
    """One line, shown by ``help(f)`` and ``f.__doc__``."""


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call that a cell waits for.

    ``id`` is ``"<cell>:<hash of function and arguments>:<occurrence>"``. It is deterministic: the same call has the
    same id in a replay or in run-ahead, so an answer with this id belongs to it.
    """

    id: str
    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    ahead: bool = False
    """True: run-ahead found it, and the cell does not wait for it yet."""


@dataclass(frozen=True, slots=True)
class Value:
    """The host's answer to a call: plain JSON types (bytes allowed)."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The host could not answer.

    It is raised in the cell as ``SubCallError`` (for tools: ``ToolError``). In a batch it is an item of the result.
    """

    message: str
    kind: str = "other"
    retryable: bool = False


Answer: TypeAlias = Value | Failure


@dataclass(frozen=True, slots=True)
class CellError:
    """Why a cell ended early.

    Attributes:
        kind: ``exception`` (raised by the code), ``syntax``, ``policy`` (refused by the sandbox), ``cpu``, ``wall``,
            ``memory`` (limits), ``crash`` (the worker died).
        type: name of the exception class as Python would print it.
        message: its text.
        line: line of the cell, from 1.
        traceback: Python-like traceback of the cell's own frames, ready to be shown to the model.
    """

    kind: str
    type: str
    message: str
    line: int | None = None
    traceback: str = ""


@dataclass(frozen=True, slots=True)
class Final:
    """The value that a cell submitted, recorded at the call.

    Attributes:
        function: ``SUBMIT``, ``FINAL`` or ``FINAL_VAR``.
        value: plain JSON types; for ``SUBMIT(a=1, b=2)`` the dict of fields.
        fields: True if it was given as fields: keyword arguments, or positional ones for the output fields.
    """

    function: str
    value: Any
    fields: bool = False


@dataclass(frozen=True, slots=True)
class VariableInfo:
    """One name of the REPL that the model may see."""

    name: str
    type: str
    size: int | None = None
    """len() of the value, if it has one (characters, items)."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The cell waits for these calls. Calls with ``ahead=True`` can be answered together with them."""

    calls: tuple[HostCall, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished cell."""

    stdout: str
    error: CellError | None = None
    final: Final | None = None
    stdout_chars: int = 0
    """Characters of the output before it was cut."""
    cpu_seconds: float = 0.0
    variables: tuple[VariableInfo, ...] = ()
    """The names that the model's code has defined so far, also functions and classes."""
    replaced: bool = False
    """True: the worker was killed or died, and a new one was built from the journal."""
    ahead_calls: int = 0
    """Calls that run-ahead found in this cell."""
    ahead_wasted: int = 0
    """Number of these calls that were answered but not used by the real run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterInputs:
    """Inputs that were added after some cells. They replace earlier ones of the same name.

    Attributes:
        after: number of cells of the journal before them, with failed ones.
        variables: by name, as for a new session.
        files: files of the workspace, as for a new session.
        epoch: new time of the session's clock, in seconds; None: not changed.
    """

    after: int
    variables: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    epoch: float | None = None


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One entry of the journal. The entries and the variables are enough to rebuild a session."""

    code: str
    answers: Mapping[str, Answer] = field(default_factory=dict)
    failed: bool = False
    """Whether the worker was killed in this cell. A replay skips it."""
    stdout_sha256: str = ""
    """Hash of the output without addresses, to detect a replay that differs."""
