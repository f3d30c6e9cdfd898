"""Functions that cells call and the host answers: ``llm_query``, its batch form, and the user's tools."""

from __future__ import annotations

import itertools
import operator
from collections.abc import Callable, ItemsView, Iterator, KeysView, Sequence, ValuesView
from dataclasses import dataclass, field
from typing import Any, Final, Protocol, TypeAlias

from rlm_adapters.sandbox.protocol.types import Answer, Failure, HostFunction
from rlm_adapters.sandbox.runtime.failures import FailedAnswer, SubCallError, ToolError
from rlm_adapters.sandbox.runtime.wire import to_json

_BY_REFERENCE_CHARS: Final = 256
"""Shorter inputs are sent as values, not as references."""


@dataclass(frozen=True, slots=True)
class WireCall:
    """One call for the host. Arguments are exact JSON types and exact bytes.

    An argument that is an input of the session, not a copy or a part of it, is sent as ``{"$input": name}``. A dict of
    the cell that looks like this is sent as ``{"$input": {"literal": dict}}``.
    """

    function: str
    args: list[Any] = field(default_factory=list)
    kwargs: dict[str, Any] = field(default_factory=dict)


CallHost: TypeAlias = Callable[[Sequence[WireCall]], list[Answer]]
"""Blocks until all calls are answered. Returns the answers in order."""


class Scheduler(Protocol):
    """Sends the calls of the running code to the host (see `tasks`)."""

    def call_host(self, calls: Sequence[WireCall]) -> list[Answer]:
        """Block the running code until all calls are answered."""


class InputReferences:
    """Recognises inputs of the session among the arguments of calls, so that they need not be sent back."""

    def __init__(self) -> None:
        self._inputs: dict[str, tuple[object, tuple[object, ...] | None]] = {}

    def add(self, name: str, value: object) -> None:
        """Remember an input."""
        if isinstance(value, (str, bytes)):
            if len(value) >= _BY_REFERENCE_CHARS:
                self._inputs[name] = value, None
        elif type(value) is list and value and all(type(item) is str for item in value):
            # A cell can change a list. It is still the input while it has the same string objects.
            self._inputs[name] = value, tuple(value)

    def convert(self, value: object) -> Any:
        """The argument for the frame."""
        for name, (original, items) in self._inputs.items():
            if value is original and (items is None or _same_items(value, items)):
                return {"$input": name}
        wire = to_json(value)
        return {"$input": {"literal": wire}} if type(wire) is dict and wire.keys() == {"$input"} else wire


def _same_items(value: Any, items: tuple[object, ...]) -> bool:
    return len(value) == len(items) and all(map(operator.is_, value, items))


class HostFunctions:
    """Makes the functions with which cells call host functions."""

    def __init__(self, scheduler: Scheduler, inputs: InputReferences) -> None:
        self._scheduler = scheduler
        self._inputs = inputs
        self._plans: dict[int, tuple[Callable[..., Any], HostFunction]] = {}

    def bind(self, function: HostFunction) -> Callable[..., Any]:
        """The callable for ``function`` in cells."""

        def call(*args: Any, **kwargs: Any) -> Any:
            return self.finish(function, self._scheduler.call_host(self.plan(function, args, kwargs)))

        call.__name__ = call.__qualname__ = function.name
        call.__doc__ = function.doc
        self._plans[id(call)] = call, function
        return call

    def described(self, candidate: object) -> HostFunction | None:
        """The host function of ``candidate``, if this object made it."""
        call, function = self._plans.get(id(candidate), (None, None))
        return function if call is candidate else None

    def plan(self, function: HostFunction, args: Sequence[Any], kwargs: dict[str, Any]) -> list[WireCall]:
        """The host calls for a call in the cell.

        Raises:
            TypeError: the arguments do not fit, or cannot be sent.
        """
        args, kwargs = bind_arguments(function, args, kwargs)
        target = function.batch_of
        if target is None:
            return [WireCall(function.name, [self._convert(a) for a in args], self._convert_named(kwargs))]
        if not args:
            first = function.parameters[0].rstrip("=") if function.parameters else ""
            if first not in kwargs:
                raise TypeError(f"{function.name}() takes a list as its first argument")
            args = [kwargs.pop(first)]
        items, *rest = args
        if isinstance(items, (str, bytes, dict)):
            raise TypeError(f"{function.name}() takes a list as its first argument, not {type(items).__name__}")
        items = list(items)
        columns = [self._column(value, len(items)) for value in rest]
        named = {str.__str__(name): self._column(value, len(items)) for name, value in kwargs.items()}
        return [
            WireCall(
                target,
                [self._convert(item), *(column[i] for column in columns)],
                {_singular(name): column[i] for name, column in named.items()},
            )
            for i, item in enumerate(items)
        ]

    def _column(self, value: object, count: int) -> Sequence[Any]:
        """A further argument of a batch for each item. A list with the length of the batch is split."""
        if isinstance(value, (range, KeysView, ValuesView, ItemsView, Iterator)) and not hasattr(value, "read"):
            value = list(itertools.islice(value, count))  # it may be endless
        if isinstance(value, (list, tuple)) and len(value) == count:
            return [self._convert(item) for item in value]
        return [self._convert(value)] * count

    def finish(self, function: HostFunction, answers: Sequence[Answer]) -> Any:
        """The result of the call in the cell.

        Raises:
            SubCallError: the call failed.
        """
        if function.batch_of is not None:
            return [_stand_in(answer) if isinstance(answer, Failure) else answer.value for answer in answers]
        (answer,) = answers
        if isinstance(answer, Failure):
            error = ToolError if function.effects else SubCallError
            raise error(answer.message, answer.kind, answer.retryable)
        return answer.value

    def _convert(self, value: object) -> Any:
        return self._inputs.convert(value)

    def _convert_named(self, kwargs: dict[str, Any]) -> dict[str, Any]:
        return {str.__str__(name): self._convert(value) for name, value in kwargs.items()}


def _singular(name: str) -> str:
    """Name of a batch argument in the call of one item: ``contexts`` becomes ``context``."""
    return name.removesuffix("s") if name == "contexts" else name


def _stand_in(failure: Failure) -> FailedAnswer:
    return FailedAnswer(failure.message, failure.kind, failure.retryable)


def bind_arguments(
    function: HostFunction, args: Sequence[Any], kwargs: dict[str, Any]
) -> tuple[list[Any], dict[str, Any]]:
    """Bind arguments to the declared parameters, always in the same form.

    ``f(p)`` and ``f(prompt=p)`` become the same call: leading parameters by position, the others by name.

    Raises:
        TypeError: as in Python for a function with these parameters.
    """
    if function.parameters is None:
        return list(args), dict(kwargs)
    name = function.name
    names = [parameter.rstrip("=") for parameter in function.parameters]
    if len(args) > len(names):
        takes = f"{len(names)} positional argument{'s' if len(names) != 1 else ''}"
        raise TypeError(f"{name}() takes {takes} but {len(args)} were given")
    bound = dict(zip(names, args, strict=False))
    for key, value in kwargs.items():
        if key not in names:
            raise TypeError(f"{name}() got an unexpected keyword argument {key!r}; it takes: {', '.join(names)}")
        if key in bound:
            raise TypeError(f"{name}() got multiple values for argument {key!r}")
        bound[key] = value
    missing = [repr(p) for p in function.parameters if not p.endswith("=") and p not in bound]
    if missing:
        raise TypeError(
            f"{name}() missing {len(missing)} required positional argument{'s' if len(missing) != 1 else ''}: "
            + " and ".join(missing)
        )
    positional = []
    for key in names:
        if key not in bound:
            break
        positional.append(bound.pop(key))
    return positional, {key: bound[key] for key in names if key in bound}
