"""What a signature asks for, as the answer that the graph validates."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rlm_adapters.answers import InvalidAnswerError, OutputSpec, to_plain

Check = Callable[[Any], "tuple[dict[str, Any] | None, str | None]"]
"""dspy.RLM's own check of a submission: the typed fields, or what is wrong."""


@dataclass(frozen=True, slots=True)
class SignatureSpec(OutputSpec):
    """The output fields of a signature; the accepted answer stays a dict of plain values, for the checkpoint.

    Attributes:
        check: validates a dict of fields.
        words: the fields and types, for the root LM.
    """

    check: Check | None = None
    words: str = ""

    def validate(self, value: Any) -> Any:
        """The dict of fields.

        Raises:
            InvalidAnswerError: a field is missing or of the wrong type.
        """
        assert self.check is not None
        fields = self._as_fields(value)
        _, error = self.check(fields)
        if error is not None:
            raise InvalidAnswerError(error)
        return {name: fields[name] for name in self.fields}

    def to_json(self, value: Any) -> Any:
        """The fields as plain JSON types."""
        return to_plain(value)

    def describe(self) -> str:
        """What to submit."""
        return self.words

    def _as_fields(self, value: Any) -> Any:
        """A bare value of a single field, or JSON text of all of them, as the dict that was meant."""
        if isinstance(value, Mapping) and set(self.fields) <= set(value):
            return dict(value)
        if len(self.fields) == 1:
            return {self.fields[0]: value}
        if isinstance(value, str):
            with suppress(ValueError):
                return json.loads(value)
        return value
