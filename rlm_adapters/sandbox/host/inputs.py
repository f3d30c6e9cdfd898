"""The inputs of a session, and the steps that send them to a worker."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.protocol.encoding import as_stream, encode
from rlm_adapters.sandbox.protocol.types import HostFunction, LaterInputs

Target: TypeAlias = Literal["variable", "file"]
Place: TypeAlias = "tuple[Target | Literal['held'], str, int]"
"""Kind of an input, its name, and its round: 0 at the beginning, else the number of its `LaterInputs`."""

HELD_BYTES: Final = 4 << 20
"""For smaller inputs, decoding is faster than starting a holder."""
_BATCH: Final = 100
"""Values per step, far below the kernel's limit of descriptors in one message."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FileVariable:
    """A variable whose value is the content of a file. The worker reads it; the host does not.

    Attributes:
        path: the file, or an open descriptor of it. The descriptor is not closed, and its position is not changed.
        kind: ``text`` (UTF-8), ``bytes`` or ``json``.
        chars: number of characters or bytes, for a description of the variable. The sandbox does not need it.
    """

    path: str | os.PathLike[str] | int
    kind: Literal["text", "bytes", "json"] = "text"
    chars: int | None = None


@dataclass(frozen=True, slots=True)
class Load:
    """One step: a few items, and the descriptors that they refer to by index.

    Attributes:
        items: of the load frame.
        fds: sent with it.
        stream: pieces that are sent after it: the content of the item, if it has a ``size``.
    """

    items: Sequence[dict[str, Any]]
    fds: Sequence[int]
    stream: Iterable[bytes | memoryview] = ()


@dataclass(frozen=True, slots=True)
class Big:
    """An input that is big enough for a holder, whose workers share it copy-on-write.

    Attributes:
        key: equal for equal content, within one process and as long as the content exists.
        place: its place in the session.
        value: the content.
    """

    key: str
    place: Place
    value: object


class Inputs:
    """The checked inputs of a session.

    Args:
        variables: by name.
        files: of the workspace, by path there; the path of a local file, or bytes.
        later: inputs that were added after some cells, in order.

    Raises:
        InputError: A name is not valid.
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
        """New time of the clock, by the number of the round - 1."""
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
        """Number of cells before each round, by the number of the round - 1."""
        return self._starts

    def items(self) -> Iterator[tuple[Place, object]]:
        """All inputs, each with its place."""
        return iter(self._all.items())

    def names(self) -> set[str]:
        """Names of the variables."""
        return {name for target, name, _ in self._all if target == "variable"}

    def check_apart_from(self, functions: Sequence[HostFunction]) -> None:
        """Refuse a variable with the name of a function.

        Raises:
            InputError: a variable has the name of a function.
        """
        clash = sorted({function.name for function in functions} & self.names())
        if clash:
            raise InputError(f"{clash[0]!r} is the name of both a variable and a function: rename one")

    def round_at(self, cells: int) -> int:
        """The number of the last `LaterInputs` that apply after this number of cells."""
        return sum(after <= cells for after in self._starts)

    def big(self) -> list[Big]:
        """The inputs that are big enough for a holder."""
        bigs = []
        for place, value in self._all.items():
            key = _key_if_big(value)
            if key is not None:
                bigs.append(Big(key, place, value))
        return bigs

    def loads(self, held: Collection[Big] = ()) -> Iterator[Load]:
        """The steps that send the inputs. The descriptors of a step are closed at the next step.

        Args:
            held: inputs that the process already has.

        Raises:
            InputError: The type of a value is not allowed in the sandbox, or a file cannot be read.
        """
        keys = {big.place: big.key for big in held}
        yield from _loads(
            [(place, _Held(keys[place]) if place in keys else value) for place, value in self._all.items()]
        )


def loads_to_hold(bigs: Sequence[Big]) -> Iterator[Load]:
    """The steps that send these inputs to a holder, one by one."""
    for big in bigs:
        if (streamed := as_stream(big.value)) is not None:
            kind, size, pieces = streamed
            head = {"target": "held", "name": big.place[1], "round": 0, "key": big.key}
            yield Load([{**head, "kind": kind, "size": size}], (), pieces)
            continue
        for load in _loads([(("held", big.place[1], 0), big.value)]):
            load.items[0]["key"] = big.key
            yield load


@dataclass(frozen=True, slots=True)
class _Held:
    """Replaces a value that the process has under this key."""

    key: str


def _loads(pending: Sequence[tuple[Place, object]]) -> Iterator[Load]:
    for start in range(0, len(pending), _BATCH):
        with ExitStack() as stack:
            fds: list[int] = []
            batch = pending[start : start + _BATCH]
            yield Load([_item(place, value, fds, stack) for place, value in batch], fds)


def _key_if_big(value: object) -> str | None:
    """A key for text and bytes above the threshold.

    Not for lists and dicts: a process that reads their items writes reference counts, so the kernel copies the pages,
    and sharing would take more memory instead of less.
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
    """Describe one value for the worker. If it is sent by a descriptor, add this to ``fds``."""
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
