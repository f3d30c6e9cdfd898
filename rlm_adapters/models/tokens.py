"""Estimate the tokens of a text without a tokenizer."""

from __future__ import annotations

from typing import Final

CHARS_PER_TOKEN: Final = 3
"""Of ASCII text, a low value: the same careful estimate as `estimate_tokens`."""


def estimate_tokens(text: str) -> int:
    """Upper estimate of the tokens of a text without a tokenizer: bytes / 3.

    ASCII words take about 4 bytes a token, Chinese and Japanese characters 3 bytes and about one token.
    """
    size = len(text) if text.isascii() else len(text.encode("utf-8", "replace"))
    return size // CHARS_PER_TOKEN + 1
