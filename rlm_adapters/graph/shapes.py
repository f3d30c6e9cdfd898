"""Check the shape of a state before nodes use it, because a client may have edited it between two calls.

A client writes JSON, so a wrong value is a wrong type or number, never a reference. It is checked once per call,
because nobody edits a state during a run.
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
    """Check the state of a run that continues.

    Raises:
        InputError: a key was edited and cannot be used.
    """
    _check(RLMState, state)
    check_usage(state.get("usage") or {})
    stop = state.get("stop")
    if stop is not None and stop not in _LIMITS:
        raise _edited("stop", f"it is None, or one of {', '.join(sorted(_LIMITS))}")


def check_remembered(state: Mapping[str, Any]) -> None:
    """Check the parts of the state that the next question of a thread uses; see `check_state`.

    Raises:
        InputError: a key was edited and cannot be used.
    """
    _check(Remembered, {key: state.get(key) for key in Remembered.__annotations__})


def check_task(task: Any) -> None:
    """Check the input of a `recurse` task; see `check_state`.

    Raises:
        InputError: `execute` did not send it.
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
    """A type adapter. It is made at the first use, because this takes 20 ms."""
    return TypeAdapter(kind)
