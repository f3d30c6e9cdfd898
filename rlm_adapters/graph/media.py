"""Check content blocks in a cell's prompt: the provider must fetch what they name, so no local files are allowed.

Some chat models read the file or the address that a block names in the host process, with its rights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

from rlm_adapters.errors import ModelCallError

_SCHEMES: Final = frozenset({"http", "https", "data", "gs", "s3"})
_ADDRESSES: Final = frozenset({
    "url", "image_url", "audio_url", "video_url", "file_url", "uri", "file_uri", "fileuri",
})  # fmt: skip
_PATHS: Final = frozenset({"path", "file_path", "filepath", "local_path", "filename_or_path"})


def check_blocks(blocks: Iterable[Any]) -> None:
    """Refuse blocks that name a file of this machine.

    Raises:
        ModelCallError: a block names one. The message is for the cell.
    """
    waiting: list[Any] = [block for block in blocks if isinstance(block, Mapping)]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, Mapping):
            waiting += one.values()
            for key, value in one.items():
                if isinstance(value, str) and _is_local(str(key).lower(), value):
                    raise ModelCallError(
                        f"the content block's {key}={value[:80]!r} names no address that a provider can fetch: "
                        "give its bytes as base64, or an https address",
                        kind="bad_request",
                    )


def _is_local(key: str, value: str) -> bool:
    if key in _PATHS:
        return True
    if key not in _ADDRESSES:
        return False
    try:
        return urlsplit(value.strip()[:1000]).scheme.lower() not in _SCHEMES
    except ValueError:
        return True
