"""The shape of a state, looked at before nodes work with it: between two calls a client may have edited it.

What a client writes is JSON, so a wrong value is a wrong type or number, never a reference. Looked at once in a call,
since nobody edits a state while it runs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from rlm_adapters.errors import InputError
from rlm_adapters.graph.state import RecurseInput, Remembered, RLMState
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.usage import check_usage

_LIMITS: Final = frozenset(field.name for field in fields(Limits))


def check_state(state: Any) -> None:
    """Check the state of a run that goes on.

    Raises:
        InputError: a key of it was edited into something that no node can work with.
    """
    _check(RLMState, state)
    check_usage(state.get("usage") or {})
    stop = state.get("stop")
    if stop is not None and stop not in _LIMITS:
        raise _edited("stop", f"it is None, or one of {', '.join(sorted(_LIMITS))}")


def check_remembered(state: Mapping[str, Any]) -> None:
    """Check what the next question of a thread takes over from the state; see `check_state`.

    Raises:
        InputError: it was edited into something that no node can work with.
    """
    _check(Remembered, {key: state.get(key) for key in Remembered.__annotations__})


def check_task(task: Any) -> None:
    """Check what a `recurse` task was sent; see `check_state`.

    Raises:
        InputError: it is not what `execute` sends.
    """
    _check(RecurseInput, task)


def _check(kind: Any, value: Any) -> None:
    try:
        _adapter(kind).validate_python(value, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        raise _edited(".".join(map(str, first["loc"])), first["msg"]) from error


def _edited(what: str, remedy: str) -> InputError:
    return InputError(f"the state of this run was edited, and its {what!r} cannot be used: {remedy}")


@cache
def _adapter(kind: Any) -> TypeAdapter[Any]:
    """Made at the first use: it takes 20 ms."""
    return TypeAdapter(kind)
