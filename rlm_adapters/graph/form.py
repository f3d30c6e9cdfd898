"""The JSON schema of a graph's input, from which Studio makes a form."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import BaseModel, WithJsonSchema, create_model

from rlm_adapters.graph.keys import MESSAGES, Keys

_VALUE: Final = {
    "anyOf": [
        {"type": "string", "title": "Text"},
        {"type": "array", "title": "List", "items": {}},
        {"type": "object", "title": "Object"},
        {"type": "number", "title": "Number"},
        {"type": "boolean", "title": "Yes or no"},
        {"type": "null", "title": "Nothing"},
    ]
}
"""An input value as JSON. For Python callers see `RLMInput`."""

_CONVERSATION: Final = {
    "type": "array",
    "items": {"type": "object"},
    "description": "The conversation; its last human message is the question.",
}
_KEYS: Final[dict[str, dict[str, Any]]] = {
    "query": {"type": "string", "description": "The question."},
    "context": {
        **_VALUE,
        "description": "What the question is about, of any length: text, a list of texts or records, or an object. It "
        "becomes the variable `context` of the cells. Text is taken as text, not as the name of a file.",
    },
    "inputs": {
        "type": "object",
        "additionalProperties": _VALUE,
        "description": "Further variables of the cells, by name.",
    },
    "files": {
        "type": "object",
        "additionalProperties": {"type": "string"},
        "description": "Files of the cells' workspace: name to text.",
    },
    "instructions": {
        "type": "string",
        "description": "Standing instructions for the root LM, as a system message would give them.",
    },
}


def input_form(keys: Keys) -> dict[str, Any]:
    """The JSON schema of `RLMInput`, with the caller's names."""
    properties = {}
    for key, schema in _KEYS.items():
        name = keys.name(key)
        if name not in properties:  # question and context may both be in the messages
            properties[name] = {"title": _title(name), **(_CONVERSATION if name == MESSAGES else schema)}
    return {
        "title": "RLMInput",
        "description": "A question, and what it is about.",
        "type": "object",
        "properties": properties,
        "required": [keys.name("query")],
    }


def input_model(keys: Keys) -> type[BaseModel]:
    """The same as a pydantic model, from which ``as_tool`` makes the arguments."""
    form = input_form(keys)
    fields: dict[str, Any] = {
        name: (Annotated[Any, WithJsonSchema(schema)], ... if name in form["required"] else None)
        for name, schema in form["properties"].items()
    }
    return create_model("RLMInput", __doc__=form["description"], **fields)


def output_form(schema: dict[str, Any], keys: Keys) -> dict[str, Any]:
    """The JSON schema of `RLMOutput`, with the caller's names."""
    shown = {}
    for key, one in schema["properties"].items():
        name = keys.name(key)
        titled = {**one, "title": _title(name)}
        listed = key == "answer" and (keys.listed or name == MESSAGES)
        shown[name] = {"title": titled["title"], "type": "array", "items": {}} if listed else titled
    return {**schema, "properties": shown, "required": [keys.name(key) for key in schema["required"]]}


def _title(name: str) -> str:
    return name.replace("_", " ").capitalize()
