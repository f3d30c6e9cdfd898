"""Share big inputs: once in the object store for all sessions, and on a node as a memory file that workers map."""

from __future__ import annotations

import hashlib
import mmap
import os
import pickle
import threading
import weakref
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from rlm_adapters.cluster.library import Library
from rlm_adapters.cluster.orders import Item
from rlm_adapters.errors import InputError
from rlm_adapters.sandbox.host.inputs import FileVariable, Inputs, Place
from rlm_adapters.sandbox.protocol.encoding import encode, sealed_memory

_INLINE_BYTES: Final = 1 << 16
_KEEP_BYTES: Final = 256 << 20
"""Bytes of unused content that are kept, because the next run may need the same."""


class Shared:
    """Bytes in the object store. Ray keeps them in a separate buffer, so a node reads them without a copy.

    Args:
        data: bytes, or an object with a buffer.
    """

    def __init__(self, data: Any) -> None:
        self.data = data

    def __reduce_ex__(self, protocol: Any) -> tuple[type[Shared], tuple[pickle.PickleBuffer]]:
        return Shared, (pickle.PickleBuffer(self.data),)


@dataclass(eq=False, slots=True, weakref_slot=True)
class Put:
    """Content in the object store. It exists as long as this object."""

    digest: str
    ref: Any
    size: int


class Puts:
    """The content that this process has put into the object store, by its digest. Thread-safe.

    Args:
        library: Ray.
    """

    def __init__(self, library: Library) -> None:
        self._library = library
        self._lock = threading.Lock()
        self._live: weakref.WeakValueDictionary[str, Put] = weakref.WeakValueDictionary()
        self._digests: dict[tuple[int, ...], str] = {}
        self._recent: OrderedDict[str, Put] = OrderedDict()

    def items(self, inputs: Inputs) -> tuple[tuple[Item, ...], dict[str, Put]]:
        """The inputs of a session. Big inputs are put into the object store. May block for a long time.

        Raises:
            InputError: an input cannot be read, or its type is not allowed in the sandbox.
        """
        items, puts = [], {}
        for place, value in inputs.items():
            item, put = self._item(place, value)
            items.append(item)
            if put is not None:
                puts[put.digest] = put
        return tuple(items), puts

    def forget(self, digests: Sequence[str]) -> None:
        """Forget content that the object store has lost. It is put there again when it is needed."""
        with self._lock:
            for digest in digests:
                self._live.pop(digest, None)
                self._recent.pop(digest, None)

    def _item(self, place: Place, value: object) -> tuple[Item, Put | None]:
        name = place[1]
        with ExitStack() as stack:
            kind: str
            if isinstance(value, FileVariable):
                kind, source = value.kind, _open(name, value, stack)
            else:
                kind, content = encode(name, value, stack)
                if isinstance(content, str):
                    return Item(place=place, kind=kind, inline=content), None
                source = content
            put = self._put(source)
            return Item(place=place, kind=kind, digest=put.digest), put

    def _put(self, fd: int) -> Put:
        found = os.fstat(fd)
        identity = (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)
        with self._lock:
            known = self._live.get(self._digests.get(identity, ""))
        if known is not None:
            return self._used(known)
        # No copy: content of 100 MB is hashed and stored from the page cache.
        data: Any = mmap.mmap(fd, found.st_size, access=mmap.ACCESS_READ) if found.st_size else b""
        digest = hashlib.sha256(data).hexdigest()
        with self._lock:
            self._digests[identity] = digest
            if len(self._digests) > 10_000:
                self._digests.pop(next(iter(self._digests)))
            known = self._live.get(digest)
            if known is None:
                # With the lock, so that ten runs with the same input store it only once.
                known = self._live[digest] = Put(digest, self._library.put(Shared(data)), found.st_size)
        return self._used(known)

    def _used(self, put: Put) -> Put:
        with self._lock:
            self._recent[put.digest] = put
            self._recent.move_to_end(put.digest)
            while sum(one.size for one in self._recent.values()) > _KEEP_BYTES and len(self._recent) > 1:
                self._recent.popitem(last=False)
        return put


def _open(name: str, variable: FileVariable, stack: ExitStack) -> int:
    if isinstance(variable.path, int):
        return variable.path
    try:
        return stack.enter_context(open(variable.path, "rb", buffering=0)).fileno()  # noqa: PTH123 - str or PathLike
    except OSError as error:
        raise InputError(
            f"{name!r} cannot be read from {os.fspath(variable.path)!r}: {error.strerror or error}"
        ) from None


class NodeContent:
    """On a node: content in memory files. Each is kept while a session uses it, and a little longer. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._files: OrderedDict[str, _File] = OrderedDict()

    def missing(self, digests: Sequence[str]) -> list[str]:
        """The digests that are not here."""
        with self._lock:
            return [digest for digest in digests if digest not in self._files]

    def add(self, digest: str, shared: Shared) -> None:
        """Add content from the object store."""
        file = _File(shared)
        with self._lock:
            if digest in self._files:
                file.close()
            else:
                self._files[digest] = file

    def use(self, digests: Sequence[str]) -> Mapping[str, int]:
        """Get descriptors by digest. Call `give_back` with the same digests later.

        Raises:
            KeyError: one of them is not here.
        """
        with self._lock:
            files = {digest: self._files[digest] for digest in digests}
            for digest, file in files.items():
                file.users += 1
                self._files.move_to_end(digest)
        return {digest: file.fd for digest, file in files.items()}

    def give_back(self, digests: Sequence[str]) -> None:
        """A session does not need this content any more."""
        with self._lock:
            for digest in digests:
                self._files[digest].users -= 1
            unused = [digest for digest, file in self._files.items() if not file.users]
            size = sum(self._files[digest].size for digest in unused)
            for digest in unused:
                if size <= _KEEP_BYTES:
                    break
                size -= self._files[digest].size
                self._files.pop(digest).close()


class _File:
    def __init__(self, shared: Shared) -> None:
        data = memoryview(shared.data).cast("B")
        self.size, self.users = len(data), 0
        self._memory = sealed_memory(data)
        self.fd = self._memory.fileno()

    def close(self) -> None:
        self._memory.close()
