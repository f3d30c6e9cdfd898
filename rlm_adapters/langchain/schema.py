"""Schemas of structured answers, from pydantic classes, TypedDicts, JSON schemas and ``response_format``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from operator import itemgetter
from typing import Any, Literal, TypeAlias

from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.runnables import Runnable, RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_json_schema
from langchain_core.utils.pydantic import TypeBaseModel, is_basemodel_subclass
from pydantic import BaseModel

from rlm_adapters.errors import InputError
from rlm_adapters.values.answers import OutputSpec

StructuredMethod: TypeAlias = Literal["json_schema", "function_calling", "json_mode"]


@dataclass(frozen=True, slots=True)
class AnswerSchema:
    """A schema that validates the answer inside the run, so that the root LM can correct it.

    Attributes:
        name: of the schema.
        spec: validates the answer.
        as_tool: return the answer as a tool call of this name, else as JSON text.
    """

    name: str
    spec: OutputSpec
    as_tool: bool = False

    @property
    def tool(self) -> dict[str, Any]:
        """The schema as a tool in OpenAI's form."""
        parameters = dict(self.spec.schema or {"type": "object"})
        return {
            "type": "function",
            "function": {"name": self.name, "description": "The answer.", "parameters": parameters},
        }


def answer_schema(schema: Any, *, as_tool: bool = False) -> AnswerSchema:
    """Read a schema in any form that LangChain accepts.

    Args:
        schema: a pydantic class, a TypedDict, a JSON schema, a function in OpenAI's form, or OpenAI's
            ``response_format``.
        as_tool: see `AnswerSchema`.

    Raises:
        InputError: it has none of these forms.
    """
    if isinstance(schema, Mapping) and schema.get("type") == "json_object":
        return AnswerSchema("answer", OutputSpec.of({"type": "object"}), as_tool)
    if isinstance(schema, Mapping) and schema.get("type") == "json_schema" and "json_schema" in schema:
        inner = schema["json_schema"]
        return AnswerSchema(str(inner.get("name") or "answer"), OutputSpec.of(inner.get("schema") or {}), as_tool)
    if isinstance(schema, type) and issubclass(schema, BaseModel):
        return AnswerSchema(schema.__name__, OutputSpec.of(schema), as_tool)
    if isinstance(schema, Mapping) and "title" not in schema and "name" not in schema and "function" not in schema:
        schema = {"title": "answer", **schema}
    try:
        found = convert_to_json_schema(schema)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"schema {schema!r}: give a pydantic class, a TypedDict, a JSON schema or a function schema ({error})"
        ) from error
    return AnswerSchema(str(found.get("title") or "answer"), OutputSpec.of(found), as_tool)


def parser_of(schema: Any, name: str, *, as_tool: bool) -> BaseOutputParser[Any]:
    """A parser that makes the result of ``with_structured_output`` from the model's message."""
    pydantic_class: TypeBaseModel | None = (
        schema if isinstance(schema, type) and is_basemodel_subclass(schema) else None
    )
    if as_tool:
        if pydantic_class is not None:
            return PydanticToolsParser(tools=[pydantic_class], first_tool_only=True)
        return JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
    if pydantic_class is not None:
        parser: BaseOutputParser[Any] = PydanticOutputParser(pydantic_object=pydantic_class)
        return parser
    return JsonOutputParser()


def with_raw(model: Runnable[Any, Any], parser: BaseOutputParser[Any]) -> Runnable[Any, Any]:
    """Return the dict of ``include_raw=True``: raw message, parsed answer, and the parser's error."""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def as_text(answer: Any) -> str:
    """An answer as the text of a message."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)
