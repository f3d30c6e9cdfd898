"""Values as chunks of bytes, so that a big one is not in memory twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from typing import Final, Literal

from rlm_adapters.errors import InputError

CHUNK_CHARS: Final = 8 << 20
"""Characters of a text that are encoded at a time."""


class Counted:
    """Hashes and counts chunks while they are read."""

    def __init__(self, chunks: Iterable[bytes]) -> None:
        self._chunks = chunks
        self._digest = hashlib.sha256()
        self.nbytes = 0

    def __iter__(self) -> Iterator[bytes]:
        for chunk in self._chunks:
            self._digest.update(chunk)
            self.nbytes += len(chunk)
            yield chunk

    def name(self) -> str:
        """SHA-256 of the chunks that were read."""
        return self._digest.hexdigest()


def text_chunks(text: str, errors: Literal["replace", "strict"] = "replace") -> Iterator[bytes]:
    """A text in UTF-8.

    Args:
        text: the text.
        errors: what becomes of lone surrogates, which UTF-8 does not have: ``replace`` makes them '?'.

    Raises:
        UnicodeEncodeError: with ``strict``, if there is one.
    """
    for start in range(0, len(text), CHUNK_CHARS):
        yield text[start : start + CHUNK_CHARS].encode("utf-8", errors)


def json_chunks(value: object) -> Iterator[bytes]:
    """A value as JSON in UTF-8; a list item by item.

    Raises:
        InputError: it is not JSON.
    """
    if isinstance(value, list) and len(value) > 1:
        yield b"["
        for number, item in enumerate(value):
            yield (b", " if number else b"") + _dumped(item)
        yield b"]"
    else:
        yield _dumped(value)


def _dumped(item: object) -> bytes:
    try:
        return json.dumps(item, ensure_ascii=False).encode("utf-8", "replace")
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"an input of type {type(item).__name__} cannot be stored: {error}; "
            "give str, bytes, lists, dicts and numbers (JSON values), or LangChain Documents"
        ) from error
