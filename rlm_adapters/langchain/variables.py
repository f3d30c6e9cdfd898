"""Variables of a run, from messages: their unique names, and the text that refers to them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Mapping
from typing import Any

from rlm_adapters.errors import InputError
from rlm_adapters.graph.tools import RESERVED

_SHOWN_CHARS = 500  # of the start and of the end of a long text that are shown in the message


class Variables:
    """Collects the variables and files of a run.

    Args:
        taken: names that the REPL uses already, for example for tools.
    """

    def __init__(self, taken: Collection[str] = ()) -> None:
        self.values: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self._taken = frozenset(taken) | RESERVED

    def add(self, value: Any, preferred: str = "context") -> str:
        """Add a value and return its name: the preferred one, or the preferred one with a number."""
        name, number = preferred, 1
        while name in self.values or name in self._taken:
            number += 1
            name = f"{preferred}_{number}"
        self.values[name] = value
        return name

    def add_text(self, text: str, preferred: str = "context", what: str = "A text") -> str:
        """Add a long text. Returns the text that replaces it in the message."""
        name = self.add(text, preferred)
        if len(text) <= 2 * _SHOWN_CHARS:
            shown = f"It reads {text!r}"
        else:
            shown = f"It starts {text[:_SHOWN_CHARS]!r} and ends {text[-_SHOWN_CHARS:]!r}"
        return f"[{what} of {len(text):,} characters stands here: it is the variable `{name}`. {shown}]"

    def add_named(self, inputs: Any) -> None:
        """Add variables with given names.

        Raises:
            InputError: they are not a mapping, or a name occurs twice or is used by the REPL.
        """
        if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
            raise InputError(f"inputs={type(inputs).__name__}: give named inputs as a dict of name to value")
        for name, value in inputs.items():
            if name in self.values or name in self._taken:
                raise InputError(f"input {name!r} is given twice, or is a name of the REPL or of a tool: rename it")
            self.values[name] = value

    def add_file(self, data: bytes, name: str) -> str:
        """Add a file to the workspace and return its name there."""
        stem, dot, suffix = name.rpartition(".")
        free, number = name, 1
        while free in self.files:
            number += 1
            free = f"{stem}_{number}.{suffix}" if dot else f"{name}_{number}"
        self.files[free] = data
        return free


def python_name(text: str, prefix: str) -> str:
    """A Python name similar to a text such as ``get-weather``. ``prefix`` is added if it would not be a name."""
    name = re.sub(r"\W+", "_", text).strip("_")
    if not name.isidentifier():
        name = f"{prefix}_{name}".rstrip("_")
    return f"{name}_" if keyword.iskeyword(name) or name in RESERVED else name
