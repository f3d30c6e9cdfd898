"""What a module says of the names that it uses of another package without a promise that they stay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PrivateName:
    """A name that has no promise to stay.

    Attributes:
        where: module that has it; a class of the module stands behind a colon.
        name: in the module or class.
        breaks: what does not work without it.
        value: that it has there; None: anything.
    """

    where: str
    name: str
    breaks: str
    value: Any = None
