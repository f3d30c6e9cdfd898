"""Settings of a run through LangGraph's ``context=``, from an assistant, Studio, or the graph around this one.

They may come from a client, so they are plain JSON: models are chosen by names that the graph offers, and a limit can
only be lowered.
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import fields, replace
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from rlm_adapters.errors import InputError
from rlm_adapters.graph.approval import both
from rlm_adapters.graph.choices import check_prices
from rlm_adapters.models.limits import LIMIT_HELP, Limits
from rlm_adapters.models.targets import ChatTarget
from rlm_adapters.prompts.load import reworded
from rlm_adapters.sandbox.host.runahead import Parallel
from rlm_adapters.values.answers import CellSpec

if TYPE_CHECKING:
    from rlm_adapters.graph.context import RLMConfig

_MOST_CHARS: Final = 80  # of a client's value, in an error


class LimitOptions(dict[str, Any]):
    """Some of the fields of `Limits`, by name."""

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> CoreSchema:
        """Any mapping. `Limits` checks its content."""
        schema: CoreSchema = handler(dict[str, Any])
        return schema

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """The fields of `Limits`, all of them optional."""
        return limits_schema()


class RLMOptions(BaseModel):
    """Settings of one run, given as ``context=``. An empty field keeps the setting of the graph."""

    # Descriptions are arguments, because reading them from docstrings makes the import 30 times slower.
    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str | None = Field(
        None, description="The root LM: the name of one of the graph's further models. Empty: the model of the graph."
    )
    sub_model: str | None = Field(
        None, description="Answers llm_query in the cells: a name, too. Empty: the sub-model of the graph."
    )
    limits: LimitOptions | None = Field(
        None, description="Limits of the run and all its child RLMs together. Each is at most that of the graph."
    )
    instructions: str | None = Field(
        None,
        description="Instructions for the root LM, after those of the graph and before those of the input.",
    )
    output_type: str | dict[str, Any] | None = Field(
        None,
        description='Replaces the output type of the graph: a JSON schema, or a name such as "list[str]".',
    )
    parallel: Parallel | None = Field(
        None,
        description="ahead: sub-LM calls of a plain loop are found ahead and made together; stream: also while the "
        "root LM is still writing the cell, for its finished statements; off: one after the other.",
    )

    approve: Literal["cells", "tools", "all"] | None = Field(
        None,
        description="What needs a person's approval before it runs, in addition to what the graph asks for.",
    )

    @model_validator(mode="before")
    @classmethod
    def _known(cls, given: Any) -> Any:
        """Refuse unknown keys."""
        if isinstance(given, Mapping):
            for key in given:
                if key not in cls.model_fields:
                    raise InputError(_unknown(cls, key, given[key]))
        return given

    @field_validator("limits")
    @classmethod
    def _usable(cls, given: dict[str, Any] | None) -> dict[str, Any] | None:
        """Refuse unknown limits and values of another type."""
        set_here = {str(name): value for name, value in (given or {}).items() if value is not None}
        Limits.of(set_here)
        return set_here or None


def read_options(given: Any, schema: type[RLMOptions]) -> RLMOptions:
    """Read the options in a ``context=`` for the RLM.

    Args:
        given: a mapping, or an `RLMOptions`.
        schema: schema of the graph.

    Raises:
        InputError: they cannot be used; the message names the key and the remedy.
    """
    if isinstance(given, RLMOptions):
        return given
    if not isinstance(given, Mapping):
        raise InputError(
            f"context={str(given)[:_MOST_CHARS]!r}: give a dict with some of {', '.join(schema.model_fields)}, "
            f"or a {schema.__name__}"
        )
    try:
        return schema(**{str(key): value for key, value in given.items()})
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        original = (first.get("ctx") or {}).get("error")
        if isinstance(original, InputError):
            raise InputError(f"context: {original}") from None
        where = ".".join(map(str, first["loc"]))
        value = str(first["input"])[:_MOST_CHARS]
        raise InputError(f"context: {where}={value!r}: {first['msg'][0].lower()}{first['msg'][1:]}") from None


def options_around(context: Any, name: str) -> Any:
    """The options for the RLM in the context of the graph around it; None if there are none.

    That context belongs to that graph. It is read only if it is an `RLMOptions`, or has the name of the RLM graph as a
    key or attribute.

    Args:
        context: of the graph around.
        name: name of the RLM graph.
    """
    if context is None or isinstance(context, RLMOptions):
        return context
    return context.get(name) if isinstance(context, Mapping) else getattr(context, name, None)


def configured(config: RLMConfig, options: RLMOptions) -> RLMConfig:
    """A graph's configuration with the options of a call.

    Raises:
        InputError: the graph does not offer an option.
    """
    changed: dict[str, Any] = {}
    limits = _limits(config.limits, options.limits or {})
    if options.model:
        target = _offered(config, "model", options.model)
        changed |= {"writer": config.writer.with_target(target), "direct": target}
        if config.sub_is_root:
            changed["sub"] = reworded(config.sub, target)
    if options.sub_model:
        changed["sub"] = reworded(config.sub, _offered(config, "sub_model", options.sub_model))
    if options.instructions:
        changed["instructions"] = "\n".join(filter(None, (config.instructions, options.instructions)))
    if options.output_type is not None:
        changed["output"] = CellSpec.of_client(options.output_type)
    if options.parallel is not None:
        changed["parallel"] = options.parallel
    if options.approve is not None:
        changed["approve"] = both(config.approve, options.approve)
    ready = replace(config, limits=limits, **changed)
    check_prices(limits, ready.prices, (ready.writer.target, ready.sub, *ready.models.values()))
    return ready


def options_schema(config: RLMConfig, schema: type[RLMOptions]) -> dict[str, Any]:
    """The JSON schema of a graph's options, with the names that it offers, and its limits as maximum values."""
    shown: dict[str, Any] = json.loads(_plain_schema(schema))
    properties = shown["properties"]
    for key in ("model", "sub_model"):
        if config.models:
            properties[key] |= {"anyOf": [{"type": "string", "enum": list(config.models)}, {"type": "null"}]}
        else:
            del properties[key]
    properties["limits"] |= {"anyOf": [limits_schema(config.limits), {"type": "null"}]}
    return shown


def limits_schema(own: Limits | None = None) -> dict[str, Any]:
    """The JSON schema of limits that a caller can give.

    Args:
        own: limits of the graph, if known: the maximum values.
    """
    properties = {}
    for field in fields(Limits):
        most = getattr(own, field.name, None)
        bounds = {} if most is None or math.isinf(most) else {"maximum": most}
        kind = "number" if "float" in str(field.type) else "integer"
        properties[field.name] = {
            "title": field.name.replace("_", " ").capitalize(),
            "description": LIMIT_HELP[field.name],
            "anyOf": [{"type": kind, "minimum": 0, **bounds}, {"type": "null"}],
            "default": bounds.get("maximum"),
        }
    return {"type": "object", "additionalProperties": False, "properties": properties}


@cache
def _plain_schema(schema: type[RLMOptions]) -> str:
    """The schema as JSON text. It is made once, because a server asks for it at every run."""
    return json.dumps(schema.model_json_schema())


def _limits(own: Limits, given: Mapping[str, Any]) -> Limits:
    """The graph's limits, lowered by those of the call.

    Raises:
        InputError: a limit is greater than that of the graph.
    """
    for name, value in given.items():
        most = getattr(own, name)
        if most is not None and value > most:
            raise InputError(
                f"context: limits.{name}={value!r} is more than this graph allows: give at most {most!r}, or raise the "
                f"limit where the graph is made (limits=Limits({name}=...))"
            )
    return replace(own, **given)


def _offered(config: RLMConfig, key: str, name: str) -> ChatTarget:
    target = config.models.get(name)
    if isinstance(target, ChatTarget):
        return target
    offered = ", ".join(map(repr, config.models)) or "none"
    raise InputError(
        f"context: {key}={name[:_MOST_CHARS]!r} is not a model that this graph offers: it offers {offered}; "
        "more are given to create_rlm_graph(models={name: model})"
    )


def _unknown(schema: type[RLMOptions], key: Any, value: Any) -> str:
    known = list(schema.model_fields)
    name = str(key)[:_MOST_CHARS]
    if key in {one.name for one in fields(Limits)}:
        advice = f"give it as limits={{{name!r}: {str(value)[:_MOST_CHARS]}}}"
    else:
        alike = difflib.get_close_matches(name, known, 1, 0.6)
        advice = f"did you mean {alike[0]}?" if alike else f"it takes {', '.join(known)}"
    return (
        f"{name!r} is no option of this graph: {advice}; keys of your own, for tools, go into a subclass of RLMOptions "
        "that is given as create_rlm_graph(context_schema=...)"
    )
