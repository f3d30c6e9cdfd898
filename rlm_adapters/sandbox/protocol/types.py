"""What crosses the border between the host and a sandbox session.

Everything here is plain, frozen and free of any framework. A cell's life is
``Session.start(code) -> Pending | Done`` and ``Session.resume(answers) -> Pending | Done``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias

Json: TypeAlias = "bool | int | float | str | list[Json] | dict[str, Json] | None"

Isolation: TypeAlias = Literal["os", "process"]
"""``os``: the operating system confines the worker (rlimits, Landlock, seccomp). ``process``: a separate,
killable process with what limits the platform has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SandboxLimits:
    """Limits of one session. A cell that reaches a limit fails with an error; the host is not affected."""

    cpu_seconds: float = 60.0
    """CPU time of one cell."""
    wall_seconds: float = 300.0
    """Active wall time of one cell, without the time spent waiting for the host. Far above the CPU limit: on a
    loaded machine wall time runs faster than CPU time."""
    memory_bytes: int | None = None
    """Address space of the worker; None: 512 MB + 6 x the size of the inputs."""
    output_chars: int = 200_000
    """Characters of output that the worker keeps of one cell (head and tail)."""
    file_bytes: int = 64 << 20
    """Sum of the files that cells write into the in-memory file system."""
    frame_bytes: int = 256 << 20
    """Largest single message from the worker that the host accepts."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFunction:
    """A function that cells may call and the host answers."""

    name: str
    effects: bool = True
    """True: a tool, called exactly once where the cell calls it. False: a pure LM call, which may be run ahead."""
    batch_of: str | None = None
    """Set for a batch form: its first argument is a list and becomes one HostCall of function ``batch_of`` per
    item; the answers come back as a list in order."""
    parameters: tuple[str, ...] | None = None
    """Names of the parameters in order, a trailing ``=`` marks an optional one (``("prompt", "model=")``); positional
    arguments are bound to them inside the worker so that a wrong call raises TypeError in the cell. None: any."""
    doc: str = ""
    """One line, shown by ``help(f)`` and ``f.__doc__``."""


@dataclass(frozen=True, slots=True)
class HostCall:
    """A call that a cell waits for.

    ``id`` is ``"<cell>:<hash of function and arguments>:<occurrence>"``: deterministic, so the same call of a
    replayed or run-ahead cell has the same id, and an answer found under it is the right one.
    """

    id: str
    function: str
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    ahead: bool = False
    """True: found by running ahead; the cell itself does not wait for it yet."""


@dataclass(frozen=True, slots=True)
class Value:
    """The host's answer to a call: plain JSON types (bytes allowed)."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The host could not answer.

    It is raised in the cell as ``SubCallError`` (for tools: ``ToolError``); in a batch it stands in its place.
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
    """What a cell submitted, recorded when it was called.

    Attributes:
        function: ``SUBMIT``, ``FINAL`` or ``FINAL_VAR``.
        value: plain JSON types; for ``SUBMIT(a=1, b=2)`` the dict of fields.
        fields: True when it was given as fields (keyword arguments, or positional ones bound to the declared output
            fields).
    """

    function: str
    value: Any
    fields: bool = False


@dataclass(frozen=True, slots=True)
class VariableInfo:
    """One name of the REPL as the model may see it."""

    name: str
    type: str
    size: int | None = None
    """len() where the value has one (characters, items)."""


@dataclass(frozen=True, slots=True)
class Pending:
    """The cell waits for these calls; those with ``ahead=True`` are offered to be answered together with them."""

    calls: tuple[HostCall, ...]


@dataclass(frozen=True, slots=True)
class Done:
    """A finished cell."""

    stdout: str
    error: CellError | None = None
    final: Final | None = None
    stdout_chars: int = 0
    """Characters written before capping."""
    cpu_seconds: float = 0.0
    variables: tuple[VariableInfo, ...] = ()
    """The names that the model's code has bound so far, functions and classes included."""
    replaced: bool = False
    """True: the worker was killed or died, and a new one was rebuilt from the journal."""
    ahead_calls: int = 0
    """Calls found by running ahead in this cell."""
    ahead_wasted: int = 0
    """Of those, answered but never asked for by the real run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LaterInputs:
    """Inputs that came when some cells had been run, in place of earlier ones of the same name.

    Attributes:
        after: how many cells of the journal were run before, those that failed included.
        variables: by name, as those that a session is opened with.
        files: of the workspace, likewise.
        epoch: instant, in seconds, to which the session's clock moves on with them; None: it does not.
    """

    after: int
    variables: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, Any] = field(default_factory=dict)
    epoch: float | None = None


@dataclass(frozen=True, slots=True)
class CellRecord:
    """One entry of the journal: with the variables it is all that is needed to rebuild a session."""

    code: str
    answers: Mapping[str, Answer] = field(default_factory=dict)
    failed: bool = False
    """The worker was killed in this cell: a replay skips it."""
    stdout_sha256: str = ""
    """Hash of the output, addresses masked, to detect a replay that diverges."""
