"""Validate the output fields of a DSPy signature as the answer of the graph. Needs the extra ``dspy``."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from rlm_adapters.prompts.dspy_private import checked_fields
from rlm_adapters.values.answers import InvalidAnswerError, OutputSpec, to_plain


@dataclass(frozen=True, slots=True)
class FieldsSpec(OutputSpec):
    """The output fields of a signature, checked with the rules and messages of dspy.RLM.

    The accepted answer has plain JSON types, for the checkpoint. `typed` converts it to the types of the signature.

    Attributes:
        signature: has the output fields.
        bare: the answer is the value of the only field, not a dict with one field.
    """

    signature: Any = None
    bare: bool = False

    @classmethod
    def of_signature(
        cls, signature: Any, names: tuple[str, ...], *, schema: Any = None, bare: bool = False
    ) -> FieldsSpec:
        """The spec of these output fields.

        Args:
            signature: has the fields.
            names: names of the fields.
            schema: JSON schema of the dict of fields, checked in addition.
            bare: see the attribute.
        """
        return cls(schema or {"type": "object"}, None, names, signature, bare)

    def typed(self, fields: Any) -> dict[str, Any]:
        """The fields parsed into the types of the signature.

        Raises:
            InvalidAnswerError: a field is missing or has another type.
        """
        values, error = checked_fields(fields, self.fields, self.signature)
        if values is None:
            raise InvalidAnswerError(error)
        return values

    def validate(self, value: Any) -> Any:
        """The dict of fields.

        Raises:
            InvalidAnswerError: a field is missing or has another type.
        """
        fields = self._as_fields(value)
        self.typed(fields)
        fields = {name: fields[name] for name in self.fields}
        if self.schema and "properties" in self.schema:
            OutputSpec.validate(self, fields)
        return fields

    def to_json(self, value: Any) -> Any:
        """The answer as plain JSON types."""
        plain = to_plain(value)
        return plain[self.fields[0]] if self.bare and len(self.fields) == 1 else plain

    def describe(self) -> str:
        """What to submit. The types are in the instructions."""
        return f"SUBMIT({', '.join(self.fields)})"

    def _as_fields(self, value: Any) -> Any:
        """The dict of fields, from the value of the only field or from JSON text."""
        if isinstance(value, Mapping) and set(self.fields) <= set(value):
            return dict(value)
        if len(self.fields) == 1:
            return {self.fields[0]: value}
        if isinstance(value, str):
            with suppress(ValueError):
                return json.loads(value)
        return value
