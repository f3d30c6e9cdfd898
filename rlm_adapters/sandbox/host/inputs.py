"""Inputs of a session, and the steps in which a worker gets them."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.protocol.encoding import encode
from rlm_adapters.sandbox.protocol.types import HostFunction, LaterInputs

Target: TypeAlias = Literal["variable", "file"]
Place: TypeAlias = "tuple[Target | Literal['held'], str, int]"
"""What an input is, its name, and its round: 0 for those of the beginning, else the number of its `LaterInputs`."""

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
        place: where it belongs in its session.
        value: the content.
    """

    key: str
    place: Place
    value: object


class Inputs:
    """What a session is opened with, checked.

    Args:
        variables: by name.
        files: of the workspace, by path there; a path of a file here, or bytes.
        later: what came when some cells had been run, in order.

    Raises:
        InputError: A name cannot be one.
    """

    def __init__(
        self,
        variables: Mapping[str, object],
        files: Mapping[str, bytes | str | os.PathLike[str]],
        later: Sequence[LaterInputs] = (),
    ) -> None:
        self._all: dict[Place, object] = {}
        self._starts = tuple(one.after for one in later)
        self.epochs = [one.epoch for one in later]
        """By the number of the round - 1: where the clock moves on to."""
        self._add(0, variables, files)
        for number, one in enumerate(later, 1):
            self._add(number, one.variables, one.files)

    def _add(self, number: int, variables: Mapping[str, Any], files: Mapping[str, Any]) -> None:
        for name, value in variables.items():
            if type(name) is not str or not name.isidentifier():
                raise InputError(f"the variable name {name!r} is not a Python identifier: choose another")
            self._all["variable", name, number] = value
        for path, data in files.items():
            if type(path) is not str or not path.strip():
                raise InputError(f"the file name {path!r} is not a path: give a non-empty str")
            as_file = isinstance(data, (str, os.PathLike))
            self._all["file", path, number] = FileVariable(path=data, kind="bytes") if as_file else data

    @property
    def starts(self) -> tuple[int, ...]:
        """By the number of the round - 1: how many cells were run before it."""
        return self._starts

    def items(self) -> Iterator[tuple[Place, object]]:
        """All of them, each with what it is."""
        return iter(self._all.items())

    def names(self) -> set[str]:
        """Of the variables."""
        return {name for target, name, _ in self._all if target == "variable"}

    def check_apart_from(self, functions: Sequence[HostFunction]) -> None:
        """Refuse a variable that has the name of a function.

        Raises:
            InputError: one has.
        """
        clash = sorted({function.name for function in functions} & self.names())
        if clash:
            raise InputError(f"{clash[0]!r} is the name of both a variable and a function: rename one")

    def round_at(self, cells: int) -> int:
        """The number of the last `LaterInputs` that count when so many cells were run."""
        return sum(after <= cells for after in self._starts)

    def big(self) -> list[Big]:
        """The inputs that are worth being held."""
        bigs = []
        for place, value in self._all.items():
            key = _key_if_big(value)
            if key is not None:
                bigs.append(Big(key, place, value))
        return bigs

    def loads(self, held: Collection[Big] = ()) -> Iterator[Load]:
        """The steps of the hand-over; descriptors of a step are closed when the next one is asked for.

        Args:
            held: inputs that the process has already got.

        Raises:
            InputError: A value is of a type that cannot enter the sandbox, or a file cannot be read.
        """
        keys = {big.place: big.key for big in held}
        yield from _loads(
            [(place, _Held(keys[place]) if place in keys else value) for place, value in self._all.items()]
        )


def loads_to_hold(bigs: Sequence[Big]) -> Iterator[Load]:
    """The steps in which a holder takes these inputs, one by one."""
    for big in bigs:
        for load in _loads([(("held", big.place[1], 0), big.value)]):
            load.items[0]["key"] = big.key
            yield load


@dataclass(frozen=True, slots=True)
class _Held:
    """In place of a value: the process has it under this key."""

    key: str


def _loads(pending: Sequence[tuple[Place, object]]) -> Iterator[Load]:
    for start in range(0, len(pending), _BATCH):
        with ExitStack() as stack:
            fds: list[int] = []
            batch = pending[start : start + _BATCH]
            yield Load([_item(place, value, fds, stack) for place, value in batch], fds)


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


def _item(place: Place, value: object, fds: list[int], stack: ExitStack) -> dict[str, Any]:
    """Describe one value for the worker, adding its descriptor to ``fds`` when it goes by one."""
    target, name, number = place
    head = {"target": target, "name": name, "round": number}
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
