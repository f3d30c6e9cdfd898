"""Turn wrong arguments of public functions into errors that name the remedy."""

from __future__ import annotations

import difflib
import functools
import inspect
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from rlm_adapters.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")

Remedy = Callable[[str, Any], str]
"""Returns a remedy for an unknown argument with this name and value; empty if there is none."""


def checked(name: str, remedy: Remedy | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator: a missing or unknown argument raises `InputError`, not ``TypeError``.

    Args:
        name: of the function or class, for the message.
        remedy: called first for an unknown argument. Without a result, a similar name is suggested.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            try:
                return function(*args, **kwargs)
            except TypeError as error:
                raised_here = error.__traceback__ is not None and error.__traceback__.tb_next is None
                message = wrong_arguments(name, function, args, kwargs, remedy) if raised_here else ""
                if not message:
                    raise
            raise InputError(message)  # outside the handler, because Python's message adds nothing

        return call

    return decorate


def wrong_arguments(
    name: str, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], remedy: Remedy | None
) -> str:
    """The problem with the arguments of a call, and a remedy; empty if they fit."""
    parameters = inspect.signature(function).parameters
    known = [key for key in parameters if key != "self"]
    unknown = next((key for key in kwargs if key not in parameters), None)
    if unknown is not None:
        return unknown_argument(name, unknown, kwargs[unknown], known, remedy)
    try:
        inspect.signature(function).bind(*args, **kwargs)
    except TypeError as error:
        needed = [key for key in known if parameters[key].default is inspect.Parameter.empty]
        return f"{name}(): {error}; it needs {', '.join(needed) or 'named arguments only'}"
    return ""


def unknown_argument(name: str, argument: str, value: Any, known: list[str], remedy: Remedy | None = None) -> str:
    """The message for an unknown argument of a function."""
    special = remedy(argument, value) if remedy is not None else ""
    alike = difflib.get_close_matches(argument, known, 1, 0.6)
    advice = special or (f"did you mean {alike[0]}?" if alike else f"it takes {', '.join(known)}")
    return f"{name}() has no argument {argument}={value!r:.80}: {advice}"
