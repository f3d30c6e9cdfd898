"""`PrivateName`: a private name of another package that a module uses."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class PrivateName:
    """A private name, which may change in any version.

    Attributes:
        where: its module, and after a colon its class.
        name: the name in the module or class.
        breaks: what does not work without it.
        value: its expected value; None: any value.
    """

    where: str
    name: str
    breaks: str
    value: Any = None
