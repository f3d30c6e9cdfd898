"""A content-addressed store for big values. The graph state has only references to them.

A checkpointer saves the state at every step (SqliteSaver all of it: 100 MB x 10 steps = 1.26 GB). So for a string of
more than `INLINE_CHARS` the state has a small reference, and the text is written once, under the SHA-256 of its bytes.
docs/storage.md says what is stored where, and for how long.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, Final, Protocol

from rlm_adapters.errors import ContentError, InputError, RLMError
from rlm_adapters.values.chunks import CHUNK_CHARS, Counted, json_chunks, text_chunks
from rlm_adapters.values.kept import Kept
from rlm_adapters.values.places import Place, place_of
from rlm_adapters.values.recent import Recent
from rlm_adapters.values.refs import SHARED, ContentRef, Kind, Packed, is_ref, is_run_owner, thread_owner

INLINE_CHARS: Final = 4_000
"""Longest string that is in the state itself."""

_BLOCK: Final = 1 << 20
_MOST_VERIFIED: Final = 1_000  # owners whose checked files are remembered
_ABANDONED_SECONDS: Final = 24 * 3600.0  # content of an unsaved run without additions for this time is left over


class Cipher(Protocol):
    """Seals content. This is LangGraph's ``CipherProtocol``, as in ``EncryptedSerializer.cipher``."""

    def encrypt(self, plaintext: bytes) -> tuple[str, bytes]:
        """The cipher's name and the sealed bytes."""
        ...

    def decrypt(self, ciphername: str, ciphertext: bytes) -> bytes:
        """Inverse of `encrypt`. Raises if the bytes were changed."""
        ...


class ContentStore:
    """Stores values by the hash of their bytes.

    Making a store uses no file. Directories are created at the first use. A value is written to a temporary name and
    then renamed, so a reader sees all of it or nothing. A read checks hash and size. All methods can be called from
    several threads and processes at once. They block: on an event loop use the methods that begin with ``a``.

    Args:
        location: None for a private directory that is removed when the process ends; a path for a durable directory;
            or any fsspec URL (``s3://bucket/prefix``, ``memory://x``), with a private local cache.
        cipher: seals content before it leaves the process. If the checkpointer of a graph has an
            ``EncryptedSerializer``, the graph uses its cipher automatically.
        ttl: content of a thread or a caller without additions for this time is removed, at the first use in each
            process and by `sweep`. Seconds or a ``timedelta``; None: never.

    Raises:
        InputError: an argument cannot be used.
    """

    def __init__(
        self,
        location: str | os.PathLike[str] | None = None,
        *,
        cipher: Cipher | None = None,
        ttl: float | timedelta | None = None,
    ) -> None:
        self.durable = location is not None
        self.cipher = cipher
        self.ttl = _seconds(ttl)
        self._place: Place = place_of(location)
        self._recent = Recent()
        self._kept = Kept()
        self._verified: dict[str, set[tuple[str, int, int]]] = {}
        self._swept = not self.durable

    def sealed(self, cipher: Cipher) -> ContentStore:
        """The same store, but a cipher seals new content."""
        other = ContentStore.__new__(ContentStore)
        other.__dict__.update(self.__dict__)
        other.cipher = cipher
        return other

    def of(self, owner: str) -> OwnedStore:
        """The same store, but new content belongs to an owner."""
        return OwnedStore(self, owner)

    # -- writing

    def put(self, value: object, *, owner: str = SHARED) -> ContentRef:
        """Store a str, bytes or JSON value.

        Raises:
            InputError: the value has another type.
            ContentError: it cannot be written.
        """
        if isinstance(value, str):
            if len(value) > CHUNK_CHARS:
                return self._write(text_chunks(value), "text", len(value), owner)
            data = value.encode("utf-8", "replace")  # lone surrogates, which UTF-8 does not have, become '?'
            ref = self._write([data], "text", len(value), owner)
            self._recent.keep(_name(ref), data.decode() if len(data) < _BLOCK else value)
            return ref
        if isinstance(value, bytes | bytearray | memoryview):
            data = bytes(value)
            return self._write([data], "bytes", len(data), owner)
        size = len(value) if isinstance(value, list | dict) else 1
        return self._write(json_chunks(value), "json", size, owner)

    async def aput(self, value: object, *, owner: str = SHARED) -> ContentRef:
        """Async form of `put`."""
        return await asyncio.to_thread(self.put, value, owner=owner)

    def keep(self, value: str | bytes, *, owner: str) -> ContentRef:
        """Keep a value in memory until `forget` is called for its owner. Does not block for long.

        For a run without a checkpointer: its state, and so the reference, is read only in this process.
        """
        return self._kept.keep(value, owner)

    # -- reading

    def get(self, ref: ContentRef) -> Any:
        """Read a stored value back.

        Raises:
            ContentError: it is missing, or its bytes have another hash.
        """
        kept = self.known(ref)
        if kept is not None:
            return kept
        return self._decoded(ref, self._bytes(ref))

    async def aget(self, ref: ContentRef) -> Any:
        """Async form of `get`."""
        kept = self.known(ref)
        return kept if kept is not None else await asyncio.to_thread(self.get, ref)

    def known(self, ref: ContentRef) -> Any:
        """The value if it is in memory, else None. Never blocks."""
        value = self._kept.get(ref)
        if value is not None:
            return value
        kept = self._recent.get(_name(ref))
        return json.loads(kept) if ref.kind == "json" and kept is not None else kept

    def kept(self, ref: ContentRef) -> Any:
        """The value if it was given to `keep`, else None."""
        return self._kept.get(ref)

    def unpack(self, value: Packed) -> Any:
        """The value of a packed value in a state."""
        return self.get(ContentRef.from_state(value)) if is_ref(value) else value

    def path(self, ref: ContentRef) -> Path:
        """A checked local file with the stored bytes. Remote content is fetched first.

        Raises:
            ContentError: it is missing, damaged, sealed (see `open_plain`), or only in memory (see `kept`).
        """
        if self._kept.get(ref) is not None:
            raise ContentError(f"content {ref.sha256[:12]} is kept in memory and has no file: read it with get()")
        if ref.cipher:
            raise ContentError(
                f"content {ref.sha256[:12]} is sealed with {ref.cipher!r}: its file is not plain content"
            )
        path = self._find(ref)
        found = path.stat()
        if _mark(ref, found) not in self._verified.get(ref.owner, ()):
            if found.st_size != ref.nbytes:
                raise _damaged(ref)
            digest = hashlib.sha256()
            with _opened(path, ref) as file:
                for block in iter(lambda: file.read(_BLOCK), b""):
                    digest.update(block)
            if digest.hexdigest() != ref.sha256:
                raise _damaged(ref)
            self._note_verified(ref, found)
        return path

    def check(self, ref: ContentRef) -> None:
        """Check that the content of a reference exists, without reading it.

        Raises:
            ContentError: it is missing.
        """
        if self._kept.get(ref) is None:
            self._find(ref)

    def open_plain(self, ref: ContentRef) -> Any:
        """A binary file object with the unsealed bytes, in memory if the system supports it."""
        file: Any
        if hasattr(os, "memfd_create"):
            file = os.fdopen(os.memfd_create("rlm-content", os.MFD_CLOEXEC), "w+b")
        else:
            file = tempfile.TemporaryFile()  # noqa: SIM115 - the caller's to close
        file.write(self._bytes(ref))
        file.flush()
        file.seek(0)
        return file

    # -- deleting

    def forget(self, owner: str) -> None:
        """Remove all content of an owner.

        Raises:
            ContentError: the store cannot be reached.
        """
        if self.forget_memory(owner):
            self._remove(owner)

    def forget_memory(self, owner: str) -> bool:
        """Remove an owner's values from memory. Returns whether there may be more to remove. Never blocks."""
        self._kept.forget(owner)
        self._recent.forget(f"{owner}/")
        self._verified.pop(owner, None)
        # Other processes do not write for the runs of this process.
        return not is_run_owner(owner) or self._place.has_written(owner)

    def delete_thread(self, thread_id: object) -> None:
        """Remove the content of a LangGraph thread. Call it when you delete the thread in the checkpointer."""
        self.forget(thread_owner(thread_id))

    async def adelete_thread(self, thread_id: object) -> None:
        """Async form of `delete_thread`."""
        await asyncio.to_thread(self.delete_thread, thread_id)

    def sweep(self, older_than: float | timedelta | None = None) -> int:
        """Remove content that is too old, and content of unsaved runs of killed processes.

        Args:
            older_than: replaces the ``ttl`` of the store.

        Returns:
            Number of owners (threads, unsaved runs, shared content) whose content was removed.
        """
        most = self.ttl if older_than is None else _seconds(older_than)
        removed = 0
        with _told("swept", "all owners"):
            for owner, age in list(self._place.owners()):
                if (most is not None and age > most) or (is_run_owner(owner) and age > _ABANDONED_SECONDS):
                    self.forget_memory(owner)
                    self._remove(owner)
                    removed += 1
        return removed

    async def asweep(self, older_than: float | timedelta | None = None) -> int:
        """Async form of `sweep`."""
        return await asyncio.to_thread(self.sweep, older_than)

    def close(self) -> None:
        """Remove content that is private to this process. Content in a durable store is kept."""
        self._kept.clear()
        self._place.close()

    # -- parts

    def _remove(self, owner: str) -> None:
        with _told("removed", owner):
            self._place.remove(owner)

    def _write(self, chunks: Iterable[bytes], kind: Kind, size: int, owner: str) -> ContentRef:
        if not self._swept:
            self._swept = True
            with suppress(ContentError):  # the write will report the problem
                self.sweep()
        cipher = ""
        if self.cipher is not None:
            cipher, sealed = self.cipher.encrypt(b"".join(chunks))
            chunks = [sealed]
        counted = Counted(chunks)
        with _told("written", owner):
            key = self._place.write(owner, counted, counted.name)
            written = self._place.find(owner, key)
        ref = ContentRef(key, kind, size, counted.nbytes, owner, cipher)
        if written is not None:
            with suppress(FileNotFoundError):  # its thread was deleted in this moment
                self._note_verified(ref, written.stat())  # hashed just now
        return ref

    def _note_verified(self, ref: ContentRef, found: os.stat_result) -> None:
        while len(self._verified) > _MOST_VERIFIED:
            self._verified.pop(next(iter(self._verified)), None)
        self._verified.setdefault(ref.owner, set()).add(_mark(ref, found))

    def _find(self, ref: ContentRef) -> Path:
        with _told("read", ref.sha256[:12]):
            path = self._place.find(ref.owner, ref.sha256)
        if path is None:
            raise ContentError(
                f"content {ref.sha256[:12]} is not in the content store: resume with the store that the run was "
                "started with; deleted content cannot be restored"
            )
        return path

    def _bytes(self, ref: ContentRef) -> bytes:
        """The plain bytes, at most as many as the reference says."""
        with _opened(self._find(ref), ref) as file:
            data: bytes = file.read(ref.nbytes + 1)
        if len(data) != ref.nbytes or hashlib.sha256(data).hexdigest() != ref.sha256:
            raise _damaged(ref)
        if not ref.cipher:
            return data
        if self.cipher is None:
            raise ContentError(
                f"content {ref.sha256[:12]} is sealed with {ref.cipher!r}: give the store (or checkpointer) this cipher"
            )
        try:
            return self.cipher.decrypt(ref.cipher, data)
        except Exception as error:
            raise ContentError(
                f"content {ref.sha256[:12]} cannot be unsealed ({type(error).__name__}): give the right key"
            ) from error

    def _decoded(self, ref: ContentRef, data: bytes) -> Any:
        if ref.kind == "bytes":
            return data
        try:
            text = data.decode()
            value = text if ref.kind == "text" else json.loads(text)
        except (ValueError, RecursionError) as error:
            raise _damaged(ref) from error
        if ref.kind == "text" and len(text) != ref.size:
            raise _damaged(ref)
        self._recent.keep(_name(ref), text)
        return value


@dataclass(frozen=True, slots=True)
class OwnedStore:
    """A store whose new content belongs to one thread or run."""

    store: ContentStore
    owner: str

    def put(self, value: object) -> ContentRef:
        """Store a value; see `ContentStore.put`."""
        return self.store.put(value, owner=self.owner)

    def pack(self, value: Any) -> Packed:
        """The form of a value in the state: a small value itself, else a reference."""
        return value if is_small(value) else self.put(value).to_state()

    def pack_given(self, value: Any) -> Packed:
        """Like `pack`, for a value that the caller keeps until the run has ended.

        Text and bytes of a run without a checkpointer stay in memory. They are not hashed or written to a file.
        """
        if type(value) in (str, bytes) and is_run_owner(self.owner) and not is_small(value):
            return self.store.keep(value, owner=self.owner).to_state()
        return self.pack(value)

    def unpack(self, value: Packed) -> Any:
        """Inverse of `pack`."""
        return self.store.unpack(value)

    def forget(self) -> None:
        """Remove the owner's content."""
        self.store.forget(self.owner)

    async def aforget(self) -> None:
        """Async form of `forget`. Uses a thread only if there are files."""
        if self.store.forget_memory(self.owner):
            await asyncio.to_thread(self.forget)


def is_small(value: object, limit: int = INLINE_CHARS) -> bool:
    """Whether a value can be in the state itself: JSON types of at most about ``limit`` characters.

    It checks at most ``limit`` parts of a value. Bytes are never small, because bytes in the state are references.
    """
    left = limit
    waiting: list[Any] = [value]
    while waiting:
        one = waiting.pop()
        kind = type(one)
        if kind is str:
            left -= len(one)
        elif kind is list or kind is tuple:
            left -= 2 * len(one)
            waiting += one if left > 0 else ()
        elif kind is dict:
            left -= 4 * len(one)
            if left > 0:
                waiting += [*one, *one.values()]
        elif one is None or kind in (bool, float) or (kind is int and -(2**63) <= one < 2**63):
            left -= 1 if waiting else 0
        else:
            return False
        if left < 0:
            return False
    return True


@contextmanager
def _told(what: str, which: str) -> Iterator[None]:
    """Convert an exception of a place to a `ContentError` without paths of this machine."""
    try:
        yield
    except RLMError:
        raise
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else type(error).__name__
        raise ContentError(
            f"content ({which}) cannot be {what}: {reason}; check that the content store can be reached, has room, and "
            "belongs to this user"
        ) from error


def _opened(path: Path, ref: ContentRef) -> Any:
    try:
        return os.fdopen(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb")
    except OSError as error:
        raise ContentError(f"content {ref.sha256[:12]} cannot be read: {error.strerror}") from error


def _damaged(ref: ContentRef) -> ContentError:
    return ContentError(
        f"stored content {ref.sha256[:12]} is damaged: its bytes have another hash or size; restore it from a copy"
    )


def _mark(ref: ContentRef, found: os.stat_result) -> tuple[str, int, int]:
    """Values that show whether a file is still the checked one."""
    return ref.sha256, found.st_ino, found.st_mtime_ns


def _name(ref: ContentRef) -> str:
    return f"{ref.owner}/{ref.sha256}"


def _seconds(given: float | timedelta | None) -> float | None:
    if given is None:
        return None
    seconds = given.total_seconds() if isinstance(given, timedelta) else given
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not seconds >= 0:
        raise InputError(f"{given!r} is not a time to live: give seconds of at least 0, or a timedelta")
    return float(seconds)
