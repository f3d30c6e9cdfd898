"""The input of a graph as a form that a person can fill: its JSON schema, as Studio shows it."""

from __future__ import annotations

from typing import Any, Final

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
"""An input as JSON; `RLMInput` says what Python callers can give."""

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


def input_form() -> dict[str, Any]:
    """The JSON schema of `RLMInput`."""
    return {
        "title": "RLMInput",
        "description": "A question, and what it is about.",
        "type": "object",
        "properties": {key: {"title": key.capitalize(), **schema} for key, schema in _KEYS.items()},
        "required": ["query"],
    }
