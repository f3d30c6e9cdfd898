"""The modules that cells can import: tables of names, and Python source run under the policy (``guest``)."""

from __future__ import annotations

from typing import Final

from rlm_adapters.sandbox.language.facades import (
    compression,
    concurrency,
    data,
    functional,
    numeric,
    pdf,
    system,
    text,
    xml,
    zones,
)
from rlm_adapters.sandbox.language.facades.environment import Builder, Environment

BUILDERS: Final[dict[str, Builder]] = {
    **text.MODULES,
    **numeric.MODULES,
    **data.MODULES,
    **functional.MODULES,
    **system.MODULES,
    **concurrency.MODULES,
    **compression.MODULES,
    **xml.MODULES,
    **pdf.MODULES,
    **zones.MODULES,
}
"""How each module is made, by its full name."""

__all__ = ["BUILDERS", "Builder", "Environment"]
