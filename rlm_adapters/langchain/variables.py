"""Variables of a run, gathered from messages: names that clash with nothing, and how the text speaks of them."""

from __future__ import annotations

import keyword
import re
from collections.abc import Collection, Mapping
from typing import Any

from rlm_adapters.errors import InputError
from rlm_adapters.graph.tools import RESERVED

_SHOWN_CHARS = 500  # of a long text's start and of its end, where it stood in the message


class Variables:
    """Collects the variables and files of a run.

    Args:
        taken: names that the REPL uses for something else, such as tools.
    """

    def __init__(self, taken: Collection[str] = ()) -> None:
        self.values: dict[str, Any] = {}
        self.files: dict[str, bytes] = {}
        self._taken = frozenset(taken) | RESERVED

    def add(self, value: Any, preferred: str = "context") -> str:
        """Keep a value and return its name: the preferred one, or that with a number."""
        name, number = preferred, 1
        while name in self.values or name in self._taken:
            number += 1
            name = f"{preferred}_{number}"
        self.values[name] = value
        return name

    def add_text(self, text: str, preferred: str = "context", what: str = "A text") -> str:
        """Keep a long text; returns what stands in its place."""
        name = self.add(text, preferred)
        if len(text) <= 2 * _SHOWN_CHARS:
            shown = f"It reads {text!r}"
        else:
            shown = f"It starts {text[:_SHOWN_CHARS]!r} and ends {text[-_SHOWN_CHARS:]!r}"
        return f"[{what} of {len(text):,} characters stands here: it is the variable `{name}`. {shown}]"

    def add_named(self, inputs: Any) -> None:
        """Keep variables that the caller has named.

        Raises:
            InputError: they are no mapping, or a name is given twice or used by the REPL.
        """
        if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
            raise InputError(f"inputs={type(inputs).__name__}: give named inputs as a dict of name to value")
        for name, value in inputs.items():
            if name in self.values or name in self._taken:
                raise InputError(f"input {name!r} is given twice, or is a name of the REPL or of a tool: rename it")
            self.values[name] = value

    def add_file(self, data: bytes, name: str) -> str:
        """Keep a file for the workspace and return its name there."""
        stem, dot, suffix = name.rpartition(".")
        free, number = name, 1
        while free in self.files:
            number += 1
            free = f"{stem}_{number}.{suffix}" if dot else f"{name}_{number}"
        self.files[free] = data
        return free


def python_name(text: str, prefix: str) -> str:
    """A Python name close to a text such as ``get-weather``; ``prefix`` stands before what is no name by itself."""
    name = re.sub(r"\W+", "_", text).strip("_")
    if not name.isidentifier():
        name = f"{prefix}_{name}".rstrip("_")
    return f"{name}_" if keyword.iskeyword(name) or name in RESERVED else name
