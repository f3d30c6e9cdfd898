"""Check values with JSON schemas. Nothing is fetched, and a schema from a cell cannot block the host.

By default jsonschema opens the target of a ``$ref``: addresses in the host's network, and files. Regular expressions
can take very long, and so can a few references that double at each step.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any, Final

import jsonschema
import referencing
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import Draft202012Validator, extend, validator_for
from referencing.exceptions import Unresolvable

from rlm_adapters.errors import InputError

MOST_ERRORS: Final = 11
"""Most errors of a value that are reported."""

_MAX_CHARS: Final = 20_000
_MAX_STEPS: Final = 100_000  # checks of a keyword for a part of the value
_NOTHING_ELSE: Final[referencing.Registry[Any]] = referencing.Registry()
_UNCHECKED: Final = ("pattern", "uniqueItems", "unevaluatedItems", "unevaluatedProperties")
"""Keywords of a cell's schema that the sub-LM sees but the host does not check, because their cost has no limit."""
_REFS: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})
_REFUSED: Final = frozenset({"$schema", "patternProperties"})

_steps_left: ContextVar[list[int]] = ContextVar("rlm_schema_steps")


def check_schema(schema: Mapping[str, Any]) -> None:
    """Check that a mapping is a JSON schema.

    Raises:
        InputError: it is not a JSON schema.
    """
    try:
        validator_for(schema).check_schema(schema)
    except (jsonschema.SchemaError, RecursionError) as error:
        raise InputError(f"output_type is not a valid JSON schema: {getattr(error, 'message', 'too deep')}") from error


def errors_of(schema: Mapping[str, Any], value: Any) -> list[ValidationError]:
    """The errors of a value; empty if it fits.

    Raises:
        InputError: the schema has a reference to something outside it.
    """
    return _first_errors(validator_for(schema)(schema, registry=_NOTHING_ELSE), value)


def errors_of_cell_schema(schema: Mapping[str, Any], value: Any) -> list[ValidationError]:
    """Like `errors_of`, for a cell's schema that `check_cell_schema` has accepted. The number of steps is limited.

    Raises:
        InputError: it takes more steps.
    """
    with _bounded():
        return _first_errors(_Bounded(schema, registry=_NOTHING_ELSE), value)


def check_cell_schema(schema: Any, name: str = "returns") -> Mapping[str, Any]:
    """Check a schema from a cell or a client.

    Args:
        schema: the schema.
        name: name of the argument, for errors.

    Raises:
        InputError: it is not a schema, is too long, has an outside reference, or a keyword whose cost has no limit.
    """
    if not isinstance(schema, Mapping):
        raise InputError(
            f"{name}={str(schema)[:80]!r}: give a JSON schema as a dict, such as "
            "{'type': 'array', 'items': {'type': 'string'}}"
        )
    try:
        chars = len(json.dumps(schema))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(f"{name} is no JSON schema ({type(error).__name__}): give plain JSON values") from error
    if chars > _MAX_CHARS:
        raise InputError(f"{name} of {chars:,} characters: give a JSON schema of at most {_MAX_CHARS:,}")
    for key, value in _entries(schema):
        if key in _REFS and not (isinstance(value, str) and value.startswith("#")):
            raise InputError(f"{name}: {key}={str(value)[:80]!r} is outside of the schema: define it under '$defs'")
        if key in _REFUSED:
            raise InputError(f"{name}: the keyword {key!r} is not supported here: leave it out")
    try:
        with _bounded():
            wrong = next(_Bounded(Draft202012Validator.META_SCHEMA).iter_errors(schema), None)
    except RecursionError as too_deep:
        raise InputError(f"{name} is nested too deeply: give a simpler JSON schema") from too_deep
    if wrong is not None:
        raise InputError(f"{name} is not a valid JSON schema: {wrong.message[:300]}")
    return schema


def _first_errors(validator: Validator, value: Any) -> list[ValidationError]:
    try:
        return list(islice(validator.iter_errors(value), MOST_ERRORS))
    except Unresolvable as error:
        raise InputError(
            f"the JSON schema refers to {error.ref!r}, which is not in it, and nothing is fetched: "
            "put it into the schema under '$defs'"
        ) from error
    except RecursionError as error:
        raise InputError("the JSON schema refers to itself without end, or the value is nested too deeply") from error


def _entries(schema: Any) -> Iterator[tuple[Any, Any]]:
    """Each key with its value, at any depth, because a reference may point anywhere in a schema."""
    waiting = [schema]
    while waiting:
        one = waiting.pop()
        if isinstance(one, Mapping):
            yield from one.items()
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one


@contextmanager
def _bounded() -> Iterator[None]:
    token = _steps_left.set([_MAX_STEPS])
    try:
        yield
    finally:
        _steps_left.reset(token)


def _counted(check: Callable[..., Any]) -> Callable[..., Iterator[ValidationError]]:
    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[ValidationError]:
        left = _steps_left.get()
        left[0] -= 1
        if left[0] < 0:
            raise InputError(f"checking a value takes more than {_MAX_STEPS:,} steps: give a simpler JSON schema")
        yield from check(validator, value, instance, schema) or ()

    return counted


def _unchecked(*_: Any) -> tuple[()]:
    return ()


_Bounded: Final = extend(
    Draft202012Validator,
    {name: _counted(check) for name, check in Draft202012Validator.VALIDATORS.items()}
    | dict.fromkeys(_UNCHECKED, _unchecked),
)
