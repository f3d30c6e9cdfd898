"""Content-addressed store: big things live here, the graph state holds references.

A saver writes the state again and again (SqliteSaver the whole of it at every step: 100 MB x 10 steps = 1.26 GB),
so a string above `INLINE_CHARS` enters the state as a small reference and its text is written once, under the SHA-256
of its bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, TypeAlias

from rlm_adapters.errors import InputError, RLMError

INLINE_CHARS = 4_000
"""Longest string that stays in the state itself."""

_SLICE = 8 << 20  # characters encoded at a time, so that a big text is never held twice

Kind: TypeAlias = Literal["text", "bytes", "json"]
Packed: TypeAlias = Any
"""A value as it stands in the state: itself when small, else the dict form of a `ContentRef`."""

_TAG = "$content"


@dataclass(frozen=True, slots=True)
class ContentRef:
    """Reference to a stored value.

    Attributes:
        sha256: hash of the stored bytes, in hexadecimal.
        kind: ``text`` (UTF-8), ``bytes`` or ``json`` (UTF-8 JSON).
        size: characters of a text, bytes, or items of a list or dict.
    """

    sha256: str
    kind: Kind
    size: int

    def to_state(self) -> dict[str, Any]:
        """The form that is saved in checkpoints."""
        return {_TAG: self.sha256, "kind": self.kind, "size": self.size}

    @classmethod
    def from_state(cls, value: Mapping[str, Any]) -> ContentRef:
        """Inverse of `to_state`."""
        return cls(value[_TAG], value["kind"], value["size"])


def is_ref(value: object) -> bool:
    """Whether a state value is a packed reference."""
    return isinstance(value, Mapping) and _TAG in value


class ContentStore:
    """Stores values by the hash of their bytes.

    Args:
        location: None for a directory of this process's own that is removed at its end; a path for a directory that
            lasts; or any fsspec URL (``s3://bucket/prefix``, ``memory://x``), kept beside a private local cache.

    Values are written to a temporary name and renamed, so a reader sees all or nothing, and their hash is checked when
    they are read. All methods may be called from several threads and processes at once.
    """

    def __init__(self, location: str | os.PathLike[str] | None = None) -> None:
        self._remote: Any = None
        self._prefix = ""
        self.durable = location is not None
        if location is not None and "://" in os.fspath(location):
            import fsspec  # noqa: PLC0415 - only needed for remote stores

            self._remote, self._prefix = fsspec.core.url_to_fs(os.fspath(location))
            self._remote.makedirs(self._prefix, exist_ok=True)
            location = None
        if location is None:
            _sweep_abandoned()
            self._root = Path(tempfile.mkdtemp(prefix=f"rlm-content-{os.getpid()}-"))
            self._cleanup = weakref.finalize(self, shutil.rmtree, str(self._root), True)
        else:
            self._root = Path(location).expanduser().absolute()
            self._root.mkdir(parents=True, exist_ok=True)

    # -- writing

    def put(self, value: object) -> ContentRef:
        """Store a str, bytes or JSON value.

        Raises:
            InputError: the value is none of these.
        """
        if isinstance(value, str):
            return self._write(_encoded(value), "text", len(value))
        if isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
            return self._write([data], "bytes", len(data))
        size = len(value) if isinstance(value, list | dict) else 1
        return self._write(_json_chunks(value), "json", size)

    def pack(self, value: Any, *, limit: int = INLINE_CHARS) -> Packed:
        """The form of a value for the state: itself when small, else a reference."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if isinstance(value, str):
            return value if len(value) <= limit else self.put(value).to_state()
        if isinstance(value, bytes):
            return self.put(value).to_state()
        if is_ref(value):
            return value
        size = 0
        for chunk in _json_chunks(value):  # a call's few arguments are not worth a file
            size += len(chunk)
            if size > limit:
                return self.put(value).to_state()
        return value

    # -- reading

    def get(self, ref: ContentRef) -> Any:
        """Read a stored value back.

        Raises:
            RLMError: it is not there, or its bytes do not have the hash that names them.
        """
        data = self.path(ref).read_bytes()
        if hashlib.sha256(data).hexdigest() != ref.sha256:
            raise RLMError(
                f"stored content {ref.sha256[:12]} is damaged: its bytes have another hash; restore it from a copy"
            )
        if ref.kind == "bytes":
            return data
        text = data.decode()
        return text if ref.kind == "text" else json.loads(text)

    def unpack(self, value: Packed) -> Any:
        """Inverse of `pack`."""
        return self.get(ContentRef.from_state(value)) if is_ref(value) else value

    def path(self, ref: ContentRef) -> Path:
        """A local file with the stored bytes (fetched first when the store is remote).

        Raises:
            RLMError: the store does not have it.
        """
        path = self._root / ref.sha256
        if path.exists():
            return path
        if self._remote is not None:
            remote = f"{self._prefix}/{ref.sha256}"
            if self._remote.exists(remote):
                partial = self._partial()
                self._remote.get_file(remote, str(partial))
                partial.replace(path)
                return path
        raise RLMError(
            f"content {ref.sha256[:12]} is not in the store {self._prefix or self._root}; "
            "resume with the content store that the run was started with"
        )

    def close(self) -> None:
        """Remove the private directory; a durable store stays."""
        if not self.durable or self._remote is not None:
            self._cleanup()

    # -- parts

    def _partial(self) -> Path:
        return self._root / f".{uuid.uuid4().hex}.part"

    def _write(self, chunks: Iterable[bytes], kind: Kind, size: int) -> ContentRef:
        digest = hashlib.sha256()
        partial = self._partial()
        try:
            with partial.open("wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    file.write(chunk)
                if self.durable and self._remote is None:
                    file.flush()
                    os.fsync(file.fileno())
            ref = ContentRef(digest.hexdigest(), kind, size)
            final = self._root / ref.sha256
            if final.exists():
                return ref
            if self._remote is not None:
                self._upload(partial, ref.sha256)
            partial.replace(final)
        finally:
            partial.unlink(missing_ok=True)
        return ref

    def _upload(self, file: Path, name: str) -> None:
        target = f"{self._prefix}/{name}"
        if not self._remote.exists(target):
            partial = f"{target}.{uuid.uuid4().hex}.part"
            self._remote.put_file(str(file), partial)
            self._remote.cp_file(partial, target)  # `mv` would take brackets in a path for a pattern
            self._remote.rm_file(partial)


def _encoded(text: str) -> Iterator[bytes]:
    """UTF-8 in slices; lone surrogates, which no file can hold, become '?'."""
    for start in range(0, len(text), _SLICE):
        yield text[start : start + _SLICE].encode("utf-8", "replace")


def _json_chunks(value: object) -> Iterator[bytes]:
    def dump(item: object) -> bytes:
        try:
            return json.dumps(item, ensure_ascii=False).encode("utf-8", "replace")
        except (TypeError, ValueError, RecursionError) as error:
            raise InputError(
                f"an input of type {type(item).__name__} cannot be stored: {error}; "
                "give str, bytes, lists, dicts and numbers (JSON values), or LangChain Documents"
            ) from error

    if isinstance(value, list) and len(value) > 1:
        yield b"["
        for number, item in enumerate(value):
            yield (b", " if number else b"") + dump(item)
        yield b"]"
    else:
        yield dump(value)


@cache
def _sweep_abandoned() -> None:
    """Remove private directories whose process was killed before it could do so itself; once in a process's life."""
    for path in Path(tempfile.gettempdir()).glob("rlm-content-*"):
        pid = path.name.split("-")[2]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(path, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True
