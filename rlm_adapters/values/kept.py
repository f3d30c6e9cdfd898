"""`Kept`: values of unsaved runs, kept in memory until the run has ended."""

from __future__ import annotations

import secrets
from typing import Any

from rlm_adapters.values.chunks import text_chunks
from rlm_adapters.values.refs import ContentRef, Kind


class Kept:
    """Texts and bytes by owner and key. Thread-safe.

    They are the caller's objects, so they take no further memory. They are not hashed, copied or written.
    """

    def __init__(self) -> None:
        self._values: dict[str, dict[str, str | bytes]] = {}

    def keep(self, value: str | bytes, owner: str) -> ContentRef:
        """Keep a value until `forget` is called for its owner. Its key is random, because there is no hash to check."""
        kind: Kind = "text" if isinstance(value, str) else "bytes"
        nbytes = len(value)
        if isinstance(value, str) and not value.isascii():
            value, nbytes = _measured(value)
        key = secrets.token_hex(32)
        self._values.setdefault(owner, {})[key] = value
        return ContentRef(key, kind, len(value), nbytes, owner)

    def get(self, ref: ContentRef) -> Any:
        """The value; None if it is not kept here."""
        of_owner = self._values.get(ref.owner)
        return None if of_owner is None else of_owner.get(ref.sha256)

    def forget(self, owner: str) -> None:
        """Remove an owner's values."""
        self._values.pop(owner, None)

    def clear(self) -> None:
        """Remove all values."""
        self._values.clear()


def _measured(text: str) -> tuple[str, int]:
    """The text, '?' in place of lone surrogates, which no file can hold; and its bytes in UTF-8."""
    try:
        return text, sum(map(len, text_chunks(text, "strict")))
    except UnicodeEncodeError:
        data = text.encode("utf-8", "replace")
        return data.decode(), len(data)
