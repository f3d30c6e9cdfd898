"""What a structured answer must be: from pydantic classes, TypedDicts, JSON schemas and ``response_format``."""

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
    """A schema that the run validates its answer against, so that the root LM can mend it.

    Attributes:
        name: of the schema.
        spec: validates.
        as_tool: the answer leaves as a tool call of that name, else as JSON text.
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
    """Read a schema in any of the forms that LangChain takes.

    Args:
        schema: a pydantic class, a TypedDict, a JSON schema, a function in OpenAI's form, or OpenAI's
            ``response_format``.
        as_tool: see `AnswerSchema`.

    Raises:
        InputError: it is none of these.
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
    """Turns the model's message into what the caller of ``with_structured_output`` gets."""
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
    """The dict of ``include_raw=True``: raw message, parsed answer, and the parser's error."""
    parsed = RunnablePassthrough.assign(parsed=itemgetter("raw") | parser, parsing_error=lambda _: None)
    failed = RunnablePassthrough.assign(parsed=lambda _: None)
    return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def as_text(answer: Any) -> str:
    """An answer as the text of a message."""
    return answer if isinstance(answer, str) else json.dumps(answer, ensure_ascii=False, default=str)
