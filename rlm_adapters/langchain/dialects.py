"""Translate content blocks of single providers that LangChain does not translate into its standard form.

A block that is still unknown becomes a variable, so nothing of it is lost.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

_Block: TypeAlias = Mapping[str, Any]


def standard(block: Any) -> Any:
    """A block of a message's content, translated if its form is known."""
    translate = _TRANSLATIONS.get(str(block.get("type"))) if isinstance(block, Mapping) else None
    return block if translate is None else translate(block)


def _text(block: _Block) -> _Block:
    return {"type": "text", "text": block.get("text") or ""}


def _image(block: _Block) -> _Block:
    url = block.get("image_url")
    if block.get("file_id"):
        return {"type": "image", "file_id": block["file_id"]}
    return {"type": "image_url", "image_url": {"url": url}} if isinstance(url, str) else block


def _file(block: _Block) -> _Block:
    """Files of OpenAI's Responses API, and text files of LangChain's older standard."""
    if block.get("type") == "file" and block.get("source_type") != "text":
        return block
    if block.get("source_type") == "text":
        return _plain(block.get("text"), block.get("title"))
    if block.get("file_url"):
        return {"type": "file", "url": block["file_url"]}
    return {"type": "file", "file": {key: block[key] for key in ("file_id", "file_data", "filename") if key in block}}


def _media(block: _Block) -> _Block:
    """Google's form for data with a MIME type."""
    mime = str(block.get("mime_type") or "")
    kind = mime.partition("/")[0]
    given = {"base64": block["data"]} if isinstance(block.get("data"), str) else {"url": block.get("file_uri")}
    return {"type": kind if kind in ("image", "audio", "video") else "file", "mime_type": mime, **given}


def _search_result(block: _Block) -> _Block:
    return _plain(_joined(block.get("content")), block.get("title") or block.get("source"))


def _document(block: _Block) -> _Block:
    """Anthropic's documents that are given as content. LangChain translates the other kinds."""
    source = block.get("source")
    if not isinstance(source, Mapping) or source.get("type") != "content":
        return block
    return _plain(_joined(source.get("content")), block.get("title"))


def _plain(text: Any, title: Any) -> _Block:
    return {
        "type": "text-plain",
        "text": str(text or ""),
        "mime_type": "text/plain",
        **({"title": title} if title else {}),
    }


def _joined(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "\n".join(str(part.get("text") or "") for part in content or () if isinstance(part, Mapping))


_TRANSLATIONS: Mapping[str, Callable[[_Block], _Block]] = {
    "input_text": _text,
    "image_url": _image,
    "input_image": _image,
    "input_file": _file,
    "file": _file,
    "media": _media,
    "search_result": _search_result,
    "document": _document,
}
