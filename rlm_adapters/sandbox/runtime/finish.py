"""How a cell submits its answer: SUBMIT, FINAL, FINAL_VAR, or the ``answer`` dictionary."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NoReturn

from rlm_adapters.sandbox.protocol.types import Final, HostFunction
from rlm_adapters.sandbox.runtime.control import FinalSignal
from rlm_adapters.sandbox.runtime.hostcalls import bind_arguments
from rlm_adapters.sandbox.runtime.wire import to_json


class Finish:
    """The functions of one session that submit an answer.

    The value is recorded at the call, so a later ``finally`` block or context manager cannot lose it. The first call of
    a cell counts.

    Args:
        variables: the current variables by name, for FINAL_VAR.
        output_fields: names of the fields of the answer, if it has fields.
    """

    def __init__(self, variables: Callable[[], Mapping[str, object]], output_fields: Sequence[str] | None) -> None:
        self._variables = variables
        self._fields: tuple[str, ...] | None = None
        self.final: Final | None = None
        self.expect(output_fields)

    def expect(self, output_fields: Sequence[str] | None) -> None:
        """Let the answer have these fields."""
        self._fields = tuple(output_fields) if output_fields else None

    def functions(self) -> dict[str, Callable[..., Any]]:
        """The functions by their names in cells."""

        # Closures, because bound methods would give access to this object.
        def SUBMIT(*args: Any, **kwargs: Any) -> NoReturn:  # noqa: N802 - the name that cells use
            """Hand in the answer and end the cell."""
            value, has_fields = self._submitted(args, kwargs)
            self._record(Final("SUBMIT", to_json(value), has_fields))

        def FINAL(value: Any, /) -> NoReturn:  # noqa: N802
            """Hand in a value as the answer and end the cell."""
            self._record(Final("FINAL", to_json(value)))

        def FINAL_VAR(variable: Any, /) -> NoReturn:  # noqa: N802
            """Hand in a variable, given by name or as it is, and end the cell."""
            self._record(Final("FINAL_VAR", to_json(self._variable(variable))))

        return {"SUBMIT": SUBMIT, "FINAL": FINAL, "FINAL_VAR": FINAL_VAR}

    def take_answer_dict(self, answer: object) -> None:
        """At the end of a cell, submit ``answer = {"content": ..., "ready": True}``."""
        if self.final is None and isinstance(answer, dict) and dict.get(answer, "ready") is True:
            self.final = Final("answer", to_json(dict.get(answer, "content")))

    def _record(self, final: Final) -> NoReturn:
        if self.final is None:
            self.final = final
        raise FinalSignal

    def _submitted(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, bool]:
        if self._fields is None:
            if kwargs and args:
                raise TypeError("SUBMIT() takes one value, or only keyword arguments")
            if kwargs:
                return kwargs, True
            if len(args) != 1:
                raise TypeError(f"SUBMIT() takes 1 value but {len(args)} were given")
            return args[0], False
        signature = HostFunction(name="SUBMIT", parameters=self._fields)
        if len(args) == 1 and not kwargs and isinstance(args[0], dict) and set(args[0]) == set(self._fields):
            return dict(args[0]), True
        positional, named = bind_arguments(signature, args, kwargs)
        return {**dict(zip(self._fields, positional, strict=False)), **named}, True

    def _variable(self, variable: Any) -> Any:
        if not isinstance(variable, str):
            return variable
        name = str.__str__(variable).strip().strip("\"'")
        variables = self._variables()
        if name in variables:
            return variables[name]
        if not name.isidentifier():
            # Not a name: the model has passed the variable itself, whose value is this text.
            return variable
        if any(value is variable for value in variables.values()):
            return variable
        existing = ", ".join(sorted(variables)) or "none"
        raise NameError(f"FINAL_VAR: there is no variable {name!r}; existing variables: {existing}", name=name)
