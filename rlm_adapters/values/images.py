"""Convert images to content blocks, which a cell can pass to a sub-LM."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any, Final

from rlm_adapters.errors import InputError

IMAGE_BYTES: Final = 20 << 20
"""Largest image. Most providers have this limit."""

_MARKS: Final = ((b"\x89PNG\r\n\x1a\n", "image/png"), (b"\xff\xd8\xff", "image/jpeg"), (b"GIF8", "image/gif"))


def image_block(data: bytes, name: str) -> dict[str, str] | None:
    """An image file as LangChain's content block for images; None for any other file.

    Raises:
        InputError: it is too large.
    """
    kind = next((kind for mark, kind in _MARKS if data.startswith(mark)), None)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        kind = "image/webp"
    if kind is None:
        return None
    if len(data) > IMAGE_BYTES:
        raise InputError(f"{name}: an image of {len(data) >> 20} MB, more than {IMAGE_BYTES >> 20}: scale it down")
    return {"type": "image", "mime_type": kind, "base64": base64.b64encode(data).decode("ascii")}


def is_image_block(value: Any) -> bool:
    """Whether `image_block` made a value."""
    return isinstance(value, Mapping) and value.get("type") == "image" and isinstance(value.get("base64"), str)


def describe_image(block: Mapping[str, Any], expression: str) -> str:
    """The description of an image for the root LM.

    Args:
        block: the image.
        expression: the Python expression of the image in a cell.
    """
    size = len(block["base64"]) * 3 // 4
    kind = block.get("mime_type") or "image"
    return f'an image ({kind}, {size:,} bytes): llm_query(["What is on it?", {expression}]) shows it to a sub-LM'
