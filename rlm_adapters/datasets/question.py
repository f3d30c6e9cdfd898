"""The question for a row, with the row's values, and its context."""

from __future__ import annotations

import json
import string
from collections.abc import Mapping, Sequence
from typing import Any

from rlm_adapters.datasets.rows import Row
from rlm_adapters.errors import InputError


class RowQuestion:
    """A question with ``{column}`` for values of the row; ``{{`` and ``}}`` are braces.

    Args:
        text: the question.
        fields: columns of the context; one: its value, several: a dict of them. None: a dict of all columns that the
            question does not name.

    Raises:
        InputError: the question is empty, or a brace in it does not name a column.
    """

    def __init__(self, text: str, fields: Sequence[str] | None = None) -> None:
        if not isinstance(text, str) or not text.strip():
            raise InputError(f"question={text!r:.80}: give the question as text")
        if isinstance(fields, str):
            fields = (fields,)
        self.text = text
        self.fields = tuple(fields) if fields else None
        self._parts = _parts(text)
        self._named = {column for _, column in self._parts if column is not None}

    def of(self, row: Row) -> tuple[str, Any]:
        """The question of a row, and its context; None if there is no context.

        Raises:
            InputError: the row has not all columns, or its question is empty.
        """
        asked = "".join(said if column is None else said + as_text(_value(row, column)) for said, column in self._parts)
        if not asked.strip():
            raise InputError(f"{row.place}: the question is empty")
        if self.fields is None:
            return asked, {str(name): value for name, value in row.values.items() if name not in self._named} or None
        if len(self.fields) == 1:
            return asked, _value(row, self.fields[0])
        return asked, {name: _value(row, name) for name in self.fields}


def _parts(text: str) -> list[tuple[str, str | None]]:
    """Pieces of text, each with the column after it."""
    remedy = "give {column} for a value of the row, and write {{ or }} for a brace"
    try:
        parsed = list(string.Formatter().parse(text))
    except ValueError as error:
        raise InputError(f"question={text!r:.80}: {error}: {remedy}") from None
    for _, column, form, conversion in parsed:
        if column == "" or form or conversion:
            raise InputError(f"question={text!r:.80}: {{{column}{'!' if conversion else ''}...}}: {remedy}")
    return [(said, column) for said, column, _, _ in parsed]


def _value(row: Row, column: str) -> Any:
    if column not in row.values:
        known = ", ".join(map(repr, list(row.values)[:20]))
        raise InputError(f"{row.place} has no {column!r}: it has {known or 'no columns'}")
    return row.values[column]


def as_text(value: Any) -> str:
    """A text unchanged, any other value as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def as_mapping(row: Row, names: Sequence[str]) -> Mapping[str, Any]:
    """The values of some columns.

    Raises:
        InputError: the row does not have one of them.
    """
    return {name: _value(row, name) for name in names}
