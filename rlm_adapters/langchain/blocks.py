"""Content blocks of a message: text stays in the message, and everything else becomes a variable."""

from __future__ import annotations

import base64
import binascii
import io
import json
import mimetypes
from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage

from rlm_adapters.errors import InputError
from rlm_adapters.langchain.dialects import standard
from rlm_adapters.langchain.variables import Variables, python_name
from rlm_adapters.values.inputs import BinaryInputError, documents_to_records, is_document, load_paths

_CONTEXT_KEY, _INPUTS_KEY = "rlm_context", "rlm_inputs"
_SILENT = frozenset({"reasoning", "tool_call", "tool_call_chunk", "invalid_tool_call"})
"""Blocks without content for the reader, or that are described with the message's tool calls."""
_THINKING = frozenset({"thinking", "redacted_thinking", "tool_use"})
_OWN_FIELDS = frozenset({"id", "index"})
"""Fields that LangChain generates for each copy. With them equal images would have different hashes."""


def context_block(context: Any = None, **inputs: Any) -> dict[str, Any]:
    """A content block with the context for a message: ``HumanMessage([context_block(docs), question])``.

    Args:
        context: becomes the variable ``context``: text, JSON values, or LangChain Documents.
        inputs: further variables by name.
    """
    value: dict[str, Any] = {}
    if context is not None:
        value[_CONTEXT_KEY] = _storable(context)
    if inputs:
        value[_INPUTS_KEY] = {name: _storable(item) for name, item in inputs.items()}
    return {"type": "non_standard", "value": value}


def is_context(block: Mapping[str, Any]) -> bool:
    """Whether a ``non_standard`` block is a `context_block`."""
    value = block.get("value")
    return isinstance(value, Mapping) and (_CONTEXT_KEY in value or _INPUTS_KEY in value)


def text_of_message(message: BaseMessage, variables: Variables, threshold: int) -> str:
    """The text of a message. Long texts and other content become variables, and the text names them.

    Raises:
        InputError: a block cannot be used.
    """
    if isinstance(message.content, str):
        return _text(message.content, variables, threshold)
    told = message.model_copy(update={"content": [standard(block) for block in message.content]})
    blocks: list[Mapping[str, Any]] = [dict(block) for block in told.content_blocks]
    given = message.type not in ("ai", "AIMessageChunk")
    return "\n".join(part for part in (_block(block, variables, threshold, given=given) for block in blocks) if part)


def _block(block: Mapping[str, Any], variables: Variables, threshold: int, *, given: bool) -> str:
    kind = block.get("type")
    if kind == "text":
        return _text(str(block.get("text") or ""), variables, threshold)
    if kind in _SILENT:
        return ""
    if kind == "text-plain":
        return _plain_text(block, variables)
    if kind == "file":
        return _file(block, variables)
    if kind in ("image", "audio", "video"):
        return _media(block, str(kind), variables)
    if kind == "non_standard":
        return _non_standard(block, variables, given=given)
    return f"[{kind}: {json.dumps(dict(block), ensure_ascii=False, default=str)[:300]}]"


def _text(text: str, variables: Variables, threshold: int) -> str:
    return variables.add_text(text) if len(text) > threshold else text


def _plain_text(block: Mapping[str, Any], variables: Variables) -> str:
    title = block.get("title") or (block.get("extras") or {}).get("title")
    what = f"The document {title!r}" if title else "A document"
    if isinstance(block.get("text"), str) and block["text"]:
        return variables.add_text(block["text"], what=what)
    if block.get("base64"):
        return _loaded(_decoded(block, "text-plain"), str(title or "document.txt"), variables)
    return _media(block, "document", variables)


def _file(block: Mapping[str, Any], variables: Variables) -> str:
    extras = block.get("extras") or {}
    name = block.get("filename") or extras.get("filename") or extras.get("name") or _default_name(block)
    if block.get("base64"):
        return _loaded(_decoded(block, f"file {name!r}"), str(name), variables)
    return _media(block, "document", variables)


def _loaded(data: bytes, name: str, variables: Variables) -> str:
    """Text and PDFs become variables. Cells can open any file in the workspace."""
    if not data:
        raise InputError(f"file block {name!r} is empty: give its bytes in 'base64'")
    try:
        value = load_paths(["-"], stdin=io.BytesIO(data)).context
    except BinaryInputError:
        stored = variables.add_file(data, name)
        return f"[The file {stored!r} of {len(data):,} bytes is in the working directory: open({stored!r}, 'rb')]"
    except InputError as error:
        raise InputError(f"file block {name!r}: {error}") from error
    if isinstance(value, str):
        return variables.add_text(value, what=f"The file {name!r}")
    stored = variables.add_file(data, name)
    pages = variables.add(value)
    first = str(value[0])[:300] if value else ""
    return (
        f"[The file {stored!r} stands here: the variable `{pages}` is the list of its {len(value)} pages of text. "
        f"The first page starts {first!r}]"
    )


def _media(block: Mapping[str, Any], kind: str, variables: Variables) -> str:
    """An image, a recording or a file that only a provider can read becomes a content block for sub-calls."""
    name = variables.add({key: value for key, value in block.items() if key not in _OWN_FIELDS}, kind)
    return (
        f"[An attachment ({kind}) stands here: it is the variable `{name}`, a content block. A sub-LM can look at it: "
        f'llm_query(["your question about it", {name}])]'
    )


def _non_standard(block: Mapping[str, Any], variables: Variables, *, given: bool) -> str:
    value = block.get("value")
    if not isinstance(value, Mapping):
        return ""
    if not is_context(block):
        kind = str(value.get("type") or next(iter(value), "unknown"))
        if kind in _THINKING or not value:
            return ""
        # A block that a model wrote in its provider's form is only named. A block that a user gave must not be lost.
        return _media(value, python_name(kind, "block"), variables) if given else f"[a block of type {kind!r}]"
    if _INPUTS_KEY in value:
        variables.add_named(value[_INPUTS_KEY])
    if _CONTEXT_KEY in value:
        variables.add(value[_CONTEXT_KEY])
    return ""


def _decoded(block: Mapping[str, Any], what: str) -> bytes:
    try:
        return base64.b64decode(str(block["base64"]), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{what} block: 'base64' cannot be decoded ({error})") from error


def _default_name(block: Mapping[str, Any]) -> str:
    return f"file{mimetypes.guess_extension(str(block.get('mime_type') or '')) or ''}"


def _storable(value: Any) -> Any:
    """A value that a message can contain: Documents become records."""
    if is_document(value):
        return documents_to_records([value])
    if isinstance(value, list | tuple) and value and all(is_document(item) for item in value):
        return documents_to_records(value)
    return list(value) if isinstance(value, tuple) else value
