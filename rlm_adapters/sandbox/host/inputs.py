"""Inputs of a session, and the steps in which a worker gets them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.protocol.encoding import encode

Target: TypeAlias = Literal["variable", "file"]

HELD_BYTES: Final = 4 << 20
"""Smaller inputs are decoded faster than a process to hold them is made."""
_BATCH: Final = 100
"""Values per step: well below the number of descriptors that the kernel lets through at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVariable:
    """A variable whose value is the content of a file, handed to the worker without passing through the host.

    Attributes:
        path: the file, or an open descriptor of it (not closed, not moved).
        kind: ``text`` (UTF-8), ``bytes`` or ``json``.
        chars: number of characters or bytes, for whoever describes the variable; the sandbox does not need it.
    """

    path: str | os.PathLike[str] | int
    kind: Literal["text", "bytes", "json"] = "text"
    chars: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One step of the hand-over: a few items and the descriptors that they refer to by index."""

    items: Sequence[dict[str, Any]]
    fds: Sequence[int]


@dataclass(frozen=True, slots=True)
class Big:
    """An input that is worth being held by a process of its own, for workers to share copy-on-write.

    Attributes:
        key: equal for equal content, within one process and as long as the content lives.
        target, name, value: what it is in its session.
    """

    key: str
    target: Target
    name: str
    value: object


class Inputs:
    """What a session is opened with, checked.

    Args:
        variables: by name.
        files: of the workspace, by path there; a path of a file here, or bytes.

    Raises:
        InputError: A name cannot be one.
    """

    def __init__(self, variables: Mapping[str, object], files: Mapping[str, bytes | str | os.PathLike[str]]) -> None:
        for name in variables:
            if type(name) is not str or not name.isidentifier():
                raise InputError(f"the variable name {name!r} is not a Python identifier: choose another")
        for path in files:
            if type(path) is not str or not path.strip():
                raise InputError(f"the file name {path!r} is not a path: give a non-empty str")
        self._all: dict[tuple[Target, str], object] = {("variable", name): value for name, value in variables.items()}
        for path, data in files.items():
            as_file = isinstance(data, (str, os.PathLike))
            self._all["file", path] = FileVariable(path=data, kind="bytes") if as_file else data  # type: ignore[arg-type]

    def big(self) -> list[Big]:
        """The inputs that are worth being held."""
        bigs = []
        for (target, name), value in self._all.items():
            key = _key_if_big(value)
            if key is not None:
                bigs.append(Big(key, target, name, value))
        return bigs

    def loads(self, held: Collection[Big] = ()) -> Iterator[Load]:
        """The steps of the hand-over; descriptors of a step are closed when the next one is asked for.

        Args:
            held: inputs that the process has already got.

        Raises:
            InputError: A value is of a type that cannot enter the sandbox, or a file cannot be read.
        """
        keys = {(big.target, big.name): big.key for big in held}
        pending = [
            (target, name, _Held(keys[target, name]) if (target, name) in keys else value)
            for (target, name), value in self._all.items()
        ]
        yield from _loads(pending)


def loads_to_hold(bigs: Sequence[Big]) -> Iterator[Load]:
    """The steps in which a holder takes these inputs, one by one."""
    for big in bigs:
        for load in _loads([("held", big.name, big.value)]):
            load.items[0]["key"] = big.key
            yield load


@dataclass(frozen=True, slots=True)
class _Held:
    """In place of a value: the process has it under this key."""

    key: str


def _loads(pending: Sequence[tuple[str, str, object]]) -> Iterator[Load]:
    for start in range(0, len(pending), _BATCH):
        with ExitStack() as stack:
            fds: list[int] = []
            batch = pending[start : start + _BATCH]
            yield Load([_item(target, name, value, fds, stack) for target, name, value in batch], fds)


def _key_if_big(value: object) -> str | None:
    """A key for text and bytes above the threshold.

    Not for lists and dicts: every process that walks through one writes its reference counts, and the kernel then
    copies the pages, so that sharing would cost memory instead of saving it.
    """
    if type(value) is str or type(value) is bytes:
        return f"object {id(value)}" if len(value) >= HELD_BYTES else None
    if isinstance(value, FileVariable) and value.kind in ("text", "bytes"):
        try:
            found = os.stat(value.path)  # noqa: PTH116 - a path or a descriptor
        except OSError:  # reported when it is opened
            return None
        if found.st_size >= HELD_BYTES:
            return f"{value.kind} {found.st_dev} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
    return None


def _item(target: str, name: str, value: object, fds: list[int], stack: ExitStack) -> dict[str, Any]:
    """Describe one value for the worker, adding its descriptor to ``fds`` when it goes by one."""
    head = {"target": target, "name": name}
    if isinstance(value, _Held):
        return {**head, "kind": "held", "key": value.key}
    if isinstance(value, FileVariable):
        fds.append(_open(name, value, stack))
        return {**head, "kind": value.kind, "fd": len(fds) - 1}
    kind, content = encode(name, value, stack)
    if isinstance(content, str):
        return {**head, "kind": kind, "inline": content}
    fds.append(content)
    return {**head, "kind": kind, "fd": len(fds) - 1}


def _open(name: str, variable: FileVariable, stack: ExitStack) -> int:
    if variable.kind not in ("text", "bytes", "json"):
        raise InputError(f"the kind {variable.kind!r} of {name!r} is unknown: use text, bytes or json")
    if isinstance(variable.path, int):
        return variable.path
    try:
        return stack.enter_context(open(variable.path, "rb", buffering=0)).fileno()  # noqa: PTH123 - str or PathLike
    except OSError as error:
        reason = error.strerror or error
        raise InputError(f"{name!r} cannot be read from {os.fspath(variable.path)!r}: {reason}") from None
