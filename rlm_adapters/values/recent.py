"""`Recent`: a cache in memory of values that were stored or read last."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Final

_LARGEST: Final = 256 << 10  # characters; bigger values are rarely needed twice
_ALL: Final = 16 << 20


class Recent:
    """Texts and bytes by key. The least recently used ones are removed first. Thread-safe.

    A run reads its earlier turns again for each prompt. With this cache most of these reads need no file.
    """

    def __init__(self) -> None:
        self._kept: OrderedDict[str, str | bytes] = OrderedDict()
        self._size = 0
        self._lock = threading.Lock()

    def keep(self, key: str, value: str | bytes) -> None:
        """Keep a value, if it is not too big."""
        if len(value) > _LARGEST:
            return
        with self._lock:
            if key not in self._kept:
                self._size += len(value)
            self._kept[key] = value
            self._kept.move_to_end(key)
            while self._size > _ALL:
                _, oldest = self._kept.popitem(last=False)
                self._size -= len(oldest)

    def get(self, key: str) -> str | bytes | None:
        """The value; None if it is not in the cache."""
        with self._lock:
            value = self._kept.get(key)
            if value is not None:
                self._kept.move_to_end(key)
            return value

    def forget(self, prefix: str) -> None:
        """Drop all values whose key starts with the prefix."""
        with self._lock:
            for key in [key for key in self._kept if key.startswith(prefix)]:
                self._size -= len(self._kept.pop(key))
