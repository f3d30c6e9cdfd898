"""Validate answers, and describe the expected answer in words.

Pydantic validates Python types, and jsonschema validates JSON schemas. The root LM sees a refused answer as an
observation, so it can correct it.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from jsonschema.exceptions import ValidationError as SchemaMismatch
from pydantic import BaseModel, TypeAdapter, ValidationError
from pydantic.errors import PydanticSchemaGenerationError, PydanticUserError

from rlm_adapters.errors import InputError
from rlm_adapters.values.schemas import check_cell_schema, check_schema, errors_of, errors_of_cell_schema
from rlm_adapters.values.type_names import type_named

_MOST_NAME_CHARS: Final = 200  # longest name of a type


class InvalidAnswerError(ValueError):
    """A submitted value does not fit. The message is for the model."""


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """The type of an answer.

    Attributes:
        schema: its JSON schema; None: any value.
        adapter: pydantic's validator, if the user gave a Python type.
        fields: names of the output fields for ``SUBMIT(field=...)``; empty for a single value.
    """

    schema: Mapping[str, Any] | None = None
    adapter: TypeAdapter[Any] | None = None
    fields: tuple[str, ...] = ()

    @classmethod
    def of(cls, output: Any) -> OutputSpec:
        """Make it from ``output_type``: None, a Python type or pydantic model, or a JSON schema.

        Raises:
            InputError: it is none of these.
        """
        if output is None or output is Any:
            return cls()
        if isinstance(output, OutputSpec):
            return output
        if isinstance(output, Mapping):
            check_schema(output)
            return cls(dict(output), None, _field_names(output))
        if isinstance(output, str):  # pydantic would evaluate it
            try:
                output = type_named(output)
            except ValueError:
                raise InputError(
                    f"output_type={output!r:.200} is not known: give the type itself, a name such as 'list[int]' or "
                    "'dict[str, float]', or a JSON schema as a dict"
                ) from None
        if inspect.isroutine(output):
            raise InputError(f"output_type={output!r} is a function: give the type of the answer")
        try:
            adapter: TypeAdapter[Any] = TypeAdapter(output)
            schema = adapter.json_schema()
        except (PydanticSchemaGenerationError, PydanticUserError, TypeError) as error:
            raise InputError(
                f"output_type={output!r:.200} cannot be validated: give a Python type, a pydantic model, a TypedDict "
                f"or a JSON schema ({str(error).partition('. ')[0].splitlines()[0]})"
            ) from error
        return cls(schema, adapter, _field_names(schema))

    def validate(self, value: Any) -> Any:
        """The value in the expected type. JSON text is parsed if the type is not text.

        Raises:
            InvalidAnswerError: it does not fit. The message says where and why.
        """
        if self.schema is None:
            return value
        first = self._check(value)
        if not isinstance(first, InvalidAnswerError):
            return first
        for other in self._alternatives(value):
            checked = self._check(other)
            if not isinstance(checked, InvalidAnswerError):
                return checked
        raise first

    def to_json(self, value: Any) -> Any:
        """A validated value as plain JSON types."""
        return self.adapter.dump_python(value, mode="json") if self.adapter is not None else value

    def describe(self) -> str:
        """What to submit, in one line for the prompt; empty if any answer is accepted."""
        if self.schema is None:
            return ""
        if self.fields:
            properties = self.schema.get("properties", {})
            required = set(self.schema.get("required", ()))
            parts = [
                f"{name}: {_words(properties[name], self.schema)}{'' if name in required else ' (optional)'}"
                for name in self.fields
            ]
            return f"SUBMIT({', '.join(f'{name}=...' for name in self.fields)}) with " + "; ".join(parts)
        return f"SUBMIT(value) with value: {_words(self.schema, self.schema)}"

    # -- parts

    def _check(self, value: Any) -> Any:
        """The validated value, or the error as a value."""
        if self.adapter is not None:
            try:
                return self.adapter.validate_python(value)
            except ValidationError as error:
                lines = [
                    f"{_path(item['loc'])}: {item['msg']} (got {_short(item['input'])})" for item in error.errors()
                ]
                return InvalidAnswerError(_message(lines))
        lines = [
            f"{_path(list(error.absolute_path))}: {error.message[:300]}"
            for error in self._errors(self.schema or {}, value)
        ]
        return InvalidAnswerError(_message(lines)) if lines else value

    def _errors(self, schema: Mapping[str, Any], value: Any) -> Sequence[SchemaMismatch]:
        return errors_of(schema, value)

    def _alternatives(self, value: Any) -> Sequence[Any]:
        """Other readings of a value: parsed JSON text, a number from text, a single field given without its name."""
        found: list[Any] = []
        if isinstance(value, str):
            text = value.strip().removeprefix("```json").removeprefix("```").removesuffix("```").strip()
            with contextlib.suppress(ValueError, RecursionError):
                found.append(json.loads(text))
        if len(self.fields) == 1 and not (isinstance(value, Mapping) and self.fields[0] in value):
            found.append({self.fields[0]: value})
        if self.schema is not None and self.schema.get("type") == "string" and isinstance(value, int | float):
            found.append(str(value))
        return found


@dataclass(frozen=True, slots=True)
class CellSpec(OutputSpec):
    """An untrusted type: a cell's ``returns=``, or a client's ``output_type``."""

    @classmethod
    def of(cls, output: Any) -> CellSpec:
        """Make it from None or a JSON schema. Text and types are not accepted.

        Raises:
            InputError: it is none of these, or cannot be checked in limited time.
        """
        return cls() if output is None else cls(dict(check_cell_schema(output)))

    @classmethod
    def of_client(cls, output: str | Mapping[str, Any]) -> OutputSpec:
        """Make it from a client's type: a JSON schema, or a name such as ``list[int]``.

        Raises:
            InputError: it is neither, or cannot be checked in limited time.
        """
        if isinstance(output, str):
            return OutputSpec.of(output[:_MOST_NAME_CHARS])
        # "$schema" only names the draft; libraries add it automatically.
        schema = dict(
            check_cell_schema({key: value for key, value in output.items() if key != "$schema"}, "output_type")
        )
        return cls(schema, None, _field_names(schema))

    def _errors(self, schema: Mapping[str, Any], value: Any) -> Sequence[SchemaMismatch]:
        return errors_of_cell_schema(schema, value)


def _field_names(schema: Mapping[str, Any]) -> tuple[str, ...]:
    properties = schema.get("properties")
    names = tuple(properties) if isinstance(properties, Mapping) else ()
    return names if all(name.isidentifier() for name in names) else ()


def _message(lines: Sequence[str]) -> str:
    shown = list(lines[:10])
    if len(lines) > len(shown):
        shown.append(f"... and {len(lines) - len(shown)} more")
    return "\n".join(shown)


def _path(parts: Sequence[Any]) -> str:
    return ".".join(str(part) for part in parts) or "value"


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."


def describe_schema(schema: Mapping[str, Any], root: Mapping[str, Any] | None = None) -> str:
    """A JSON schema in a few words, in Python terms; ``root`` has its ``$defs``."""
    return _words(schema, schema if root is None else root)


def _words(schema: Mapping[str, Any], root: Mapping[str, Any], depth: int = 0) -> str:
    """A JSON schema in a few words, in Python terms."""
    if "$ref" in schema:
        name = str(schema["$ref"]).rsplit("/", 1)[-1]
        target = root.get("$defs", root.get("definitions", {})).get(name)
        return _words(target, root, depth + 1) if isinstance(target, Mapping) and depth < 4 else name
    note = f" - {schema['description']}" if depth and isinstance(schema.get("description"), str) else ""
    if "enum" in schema:
        return "one of " + ", ".join(repr(value) for value in schema["enum"]) + note
    if "const" in schema:
        return repr(schema["const"]) + note
    for key in ("anyOf", "oneOf"):
        if key in schema:
            return " or ".join(_words(option, root, depth + 1) for option in schema[key]) + note
    kind = schema.get("type")
    if kind == "array":
        items = schema.get("items")
        return f"list of {_words(items, root, depth + 1)}{note}" if isinstance(items, Mapping) else f"list{note}"
    if kind == "object":
        properties = schema.get("properties")
        if isinstance(properties, Mapping) and properties and depth < 4:
            inner = ", ".join(f"{name!r}: {_words(value, root, depth + 1)}" for name, value in properties.items())
            return f"dict {{{inner}}}{note}"
        extra = schema.get("additionalProperties")
        return f"dict of {_words(extra, root, depth + 1)}{note}" if isinstance(extra, Mapping) else f"dict{note}"
    names = {"string": "str", "integer": "int", "number": "float", "boolean": "bool", "null": "None"}
    if isinstance(kind, list):
        return " or ".join(names.get(str(one), str(one)) for one in kind) + note
    return names.get(str(kind), "any value") + note


def to_plain(value: Any) -> Any:
    """Convert a tool's result or a validated answer to JSON types. Models and dataclasses become dicts."""
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if value is None or isinstance(value, str | bool | int | float):
        return value
    try:
        return TypeAdapter(Any).dump_python(value, mode="json")
    except (ValueError, TypeError, RecursionError):
        return str(value)
