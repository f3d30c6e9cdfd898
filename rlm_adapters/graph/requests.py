"""Make the first state of a graph from the caller's input.

All errors in the input are found here, before any model is called.
"""

from __future__ import annotations

import base64
import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from rlm_adapters.errors import InputError
from rlm_adapters.graph.keys import INPUTS, MESSAGES, OWN, Keys
from rlm_adapters.graph.tools import Tool, check_name
from rlm_adapters.prompts import CodeWriter, InputInfo
from rlm_adapters.values.content import OwnedStore
from rlm_adapters.values.inputs import load_paths
from rlm_adapters.values.plain import path_hint, plain_input, plain_items
from rlm_adapters.values.refs import ContentRef, Packed
from rlm_adapters.values.urls import URL

_LOG = logging.getLogger("rlm_adapters")


def pack_input(
    given: Any,
    store: OwnedStore,
    tools: Mapping[str, Tool],
    writer: CodeWriter,
    *,
    whole: bool = True,
    keys: Keys = OWN,
) -> dict[str, Any]:
    """Check an input and put big values into the store.

    Args:
        given: an `RLMInput`, or a pydantic model or dataclass with its keys.
        store: of the run.
        tools: tools, whose names inputs must not have.
        writer: describes and names the inputs.
        whole: the input is only for this graph; False: it is the state of a graph around it, with further keys.
        keys: the caller's names.

    Returns:
        The keys of `RLMInput` with packed values, and ``described``: the descriptions of the variables for the prompt.

    Raises:
        InputError: it cannot be used; the message says what to do.
    """
    if isinstance(given, Mapping) and given.get("described") is not None:
        if isinstance(given["described"], bytes):
            return dict(given)
        raise InputError("'described' is not for callers: leave it out, because the graph describes the inputs")
    given, unknown = keys.read(given)
    unknown = [key for key in unknown if key != "described"]
    query = given.get("query")
    if not isinstance(query, str) or not query.strip():
        raise InputError(_no_question(query, unknown, keys))
    if whole and unknown:
        raise InputError(
            f"the input has the unknown key {unknown[0]!r}: the graph takes {', '.join(map(keys.name, INPUTS))}; "
            f"give further variables as {keys.name('inputs')}={{{unknown[0]!r}: ...}}"
        )
    names = writer.variable_names
    values, files = _values(given), _files(given)
    packed: dict[str, Packed] = {}
    described: list[dict[str, Any]] = []
    for name, value in values.items():
        if name not in ("context", "answer"):  # the REPL's `answer` is a variable like any other
            check_name(name, "input")
        if name in tools:
            raise InputError(f"input {name!r} has the name of a tool: rename one of them")
        if whole and (hint := path_hint(name, value)):
            _LOG.warning("%s", hint)
        packed[name], info = _pack_variable(name, value, files, store, partial(writer.describe, names.get(name, name)))
        described.append({"name": info.name, "type": info.type, "size": info.size, "preview": info.preview})
    if "query" in names:
        info = writer.describe(names["query"], query)
        described.append({"name": info.name, "type": info.type, "size": info.size, "preview": info.preview})
    return {
        "query": store.pack(query),
        "context": packed.get("context"),
        "inputs": {name: value for name, value in packed.items() if name != "context"},
        "files": {_file_name(name): _pack_file(name, data, store) for name, data in files.items() if data is not None},
        "instructions": _instructions(given),
        "described": describe_inputs(described),
    }


def describe_inputs(described: Sequence[Mapping[str, Any]]) -> bytes:
    """The descriptions of the variables for the state, as bytes, which a client cannot send."""
    return json.dumps(described).encode()


def _no_question(query: Any, unknown: list[Any], keys: Keys) -> str:
    name = keys.name("query")
    hint = ""
    if MESSAGES in unknown:
        hint = f" (a conversation is given to create_rlm_graph(inputs={{'query': {MESSAGES!r}}}), or to ChatRLM)"
    elif unknown:
        hint = f" (further keys are {', '.join(map(repr, unknown))}; another name for the question is given as "
        hint += "create_rlm_graph(inputs={'query': ...}))"
    return f"{name}={query!r:.200}: give the question as non-empty text under {name!r}{hint}"


def _values(given: Mapping[str, Any]) -> dict[str, Any]:
    named = given.get("inputs") or {}
    if not isinstance(named, Mapping) or not all(isinstance(name, str) for name in named):
        raise InputError(
            f"inputs={type(named).__name__}: give named inputs as a dict of name to value{_elsewhere('inputs')}"
        )
    values = dict(named)
    context = given.get("context")
    if context is not None:
        if "context" in values:
            raise InputError("'context' is given twice, by itself and in 'inputs': keep one")
        values = {"context": context, **values}
    return values


def _resolve(value: Any, name: str, files: dict[str, Any]) -> tuple[Any, str]:
    """Load paths, convert objects, and say what they were. A loaded file is also in the workspace."""
    if isinstance(value, os.PathLike | URL):
        value = [value]
    if isinstance(value, list | tuple) and value and all(isinstance(item, os.PathLike | URL) for item in value):
        loaded = load_paths(value, allow_empty=True)
        for note in loaded.notes:
            _LOG.info("input %r: %s", name, note)
        for file, path in loaded.files.items():
            files.setdefault(file, path)
        value = loaded.context
    return plain_input(value, name)


def _pack_variable(
    name: str, value: Any, files: dict[str, Any], store: OwnedStore, describe: Callable[[Any], InputInfo]
) -> tuple[Packed, InputInfo]:
    if isinstance(value, ContentRef):
        return value.to_state(), describe(store.store.get(value))
    given = value
    if isinstance(value, bytearray | memoryview):
        value = bytes(value)
    try:
        value, note = _resolve(value, name, files)
        try:
            packed = store.pack_given(value) if value is given else store.pack(value)
        except InputError:
            value, note = plain_items(value)  # there is a table, a date or a similar value inside
            packed = store.pack(value)
    except InputError as error:
        raise InputError(f"input {name!r}: {error}") from error
    info = describe(value)
    return packed, info if not note else replace(info, preview=f"{note}\n  {info.preview}")


def _files(given: Mapping[str, Any]) -> dict[Any, Any]:
    files = given.get("files") or {}
    if not isinstance(files, Mapping):
        raise InputError(f"files of type {type(files).__name__}: give a dict of name to text{_elsewhere('files')}")
    return {name: _plain_file(name, data) for name, data in files.items()}


def _elsewhere(key: str) -> str:
    """A remedy if a larger graph uses the name of this key for something else."""
    return f"; if it is a key of a larger graph, name another one: create_rlm_graph(inputs={{{key!r}: 'rlm_{key}'}})"


def _plain_file(name: Any, data: Any) -> Any:
    """Convert a file of deepagents' state: a dict with text or lines as ``content``, or base64 if ``encoding`` says so.

    Raises:
        InputError: it is a dict of another form.
    """
    if not isinstance(data, Mapping):
        return data
    content, encoding = data.get("content"), data.get("encoding", "utf-8")
    if isinstance(content, list) and all(isinstance(line, str) for line in content):
        content = "\n".join(content)
    if not isinstance(content, str) or encoding not in ("utf-8", "base64"):
        raise InputError(f"file {name!r}: a dict needs text or a list of lines as 'content', as in files of deepagents")
    if encoding == "utf-8":
        return content
    try:
        return base64.b64decode(content, validate=True)
    except ValueError as error:
        raise InputError(f"file {name!r}: its 'content' is not base64, but its 'encoding' says so: {error}") from error


def _file_name(name: Any) -> str:
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise InputError(f"file name {name!r}: give a relative path such as 'report.pdf'")
    return name


def _pack_file(name: str, data: Any, store: OwnedStore) -> Packed:
    given = data
    if isinstance(data, ContentRef):
        return data.to_state()
    if isinstance(data, str):  # text: JSON from a client can never name a file of this machine
        data = data.encode("utf-8", "replace")
    elif isinstance(data, os.PathLike):
        path = Path(data)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise InputError(f"file {name!r}: cannot read {os.fspath(path)!r} ({error.strerror or error})") from error
    if not isinstance(data, bytes | bytearray):
        raise InputError(f"file {name!r} of type {type(data).__name__}: give text, bytes, or a pathlib.Path")
    return store.pack_given(data) if data is given else store.pack(bytes(data))


def _instructions(given: Mapping[str, Any]) -> str:
    text = given.get("instructions") or ""
    if not isinstance(text, str):
        raise InputError(f"instructions of type {type(text).__name__}: give text{_elsewhere('instructions')}")
    return text
