"""Convert objects (tables, messages, Documents, models) to plain values for an input."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, KeysView, Mapping, Sequence, ValuesView
from typing import Any, Final

from pydantic import BaseModel

from rlm_adapters.errors import InputError
from rlm_adapters.values.answers import to_plain
from rlm_adapters.values.frames import plain_scalar, plain_table
from rlm_adapters.values.images import describe_image, is_image_block
from rlm_adapters.values.inputs import documents_to_records, is_document
from rlm_adapters.values.refs import ContentRef
from rlm_adapters.values.urls import URL, is_url

_FILE_NAME: Final = re.compile(
    r"""(?: (?:~|\.{1,2})?[/\\][^\n]* | [A-Za-z]:[/\\][^\n]* | file://[^\n]* | https?://\S+
          | [^\n]{1,200}\.(?:txt|md|rst|pdf|csv|tsv|jsonl?|docx?|xlsx?|pptx?|odt|html?|epub|xml|ya?ml|log|py|parquet|
            png|jpe?g|gif|webp|gz|zip) )""",
    re.VERBOSE | re.IGNORECASE,
)
_LONGEST_PATH: Final = 300
_SEARCHED_FOR_IMAGES: Final = 1_000


def plain_input(value: Any, name: str = "context") -> tuple[Any, str]:
    """Convert an input to str, bytes or JSON values, with a note for the root LM.

    Tables and arrays become records (see `rlm_adapters.values.frames`), LangChain Documents records with
    ``page_content`` and ``metadata``, messages dicts with ``role`` and ``content``, pydantic models and dataclasses
    dicts. The items of lists and dicts are not converted: see `plain_items`.

    Args:
        value: the input.
        name: name of its variable.

    Returns:
        The value, and a line for the root LM; the line may be empty.
    """
    table = plain_table(value)
    if table is not None:
        return table
    if is_document(value):
        return documents_to_records([value]), ""
    if _is_message(value):
        return _messages([value])[0], ""
    if isinstance(value, BaseModel) or (
        dataclasses.is_dataclass(value) and not isinstance(value, type | ContentRef | URL)
    ):
        return to_plain(value), f"a {type(value).__name__}"
    if isinstance(value, Mapping):
        return value, _images_in(value, name)
    if isinstance(value, list | tuple | set | frozenset):
        items = list(value)
        if items and all(map(is_document, items)):
            return documents_to_records(items), ""
        if items and all(map(_is_message, items)):
            return _messages(items), f"a conversation of {len(items)} messages"
        return (value if isinstance(value, list) else items), ""
    if isinstance(value, range | KeysView | ValuesView):
        return list(value), ""
    if isinstance(value, Iterator):
        raise InputError(f"a {type(value).__name__} can be read only once: give list(...) of it")
    return plain_scalar(value), ""


def plain_items(value: Any) -> tuple[Any, str]:
    """`plain_input` for everything inside a list or dict that is not JSON."""
    if isinstance(value, Mapping):
        plain = {str(name): plain_items(item) for name, item in value.items()}
        notes = "; ".join(f"{name!r}: {note}" for name, (_, note) in plain.items() if note)
        return {name: item for name, (item, _) in plain.items()}, notes
    if isinstance(value, list | tuple | set | frozenset):
        converted, note = plain_input(value)
        return (converted, note) if note else ([plain_items(item)[0] for item in converted], "")
    return plain_input(value)


def path_hint(name: str, value: Any) -> str:
    """A hint for a caller who seems to have given a file name as text; empty if it looks like text.

    Only the text is checked. Whether the file exists must not be revealed to a client.
    """
    if not isinstance(value, str) or len(value) > _LONGEST_PATH or not _FILE_NAME.fullmatch(value.strip()):
        return ""
    if is_url(value.strip()):
        return f"{name}={value!r} is taken as text: to read the page give rlm_adapters.URL({value.strip()!r})"
    return f"{name}={value!r} is taken as text: to read the file give pathlib.Path({value.strip()!r})"


def _images_in(value: Mapping[Any, Any], name: str) -> str:
    """How a cell passes an image, or those in a dict of files, to a sub-LM; empty if there is none."""
    if is_image_block(value):
        return describe_image(value, name)
    if len(value) > _SEARCHED_FOR_IMAGES:
        return ""
    images = [key for key, item in value.items() if is_image_block(item)]
    more = f" (and {len(images) - 1} more images)" if len(images) > 1 else ""
    return describe_image(value[images[0]], f"{name}[{images[0]!r}]") + more if images else ""


def _is_message(value: Any) -> bool:
    """Whether a value is a LangChain message, by its attributes, because this module does not import LangChain."""
    return isinstance(value, BaseModel) and hasattr(value, "response_metadata") and hasattr(value, "content")


def _messages(messages: Sequence[Any]) -> list[dict[str, Any]]:
    from langchain_core.messages import convert_to_openai_messages  # noqa: PLC0415 - there already, with the messages

    converted = convert_to_openai_messages(list(messages))
    return converted if isinstance(converted, list) else [converted]
