"""Exit codes of a worker."""

from __future__ import annotations

from typing import Final

EXIT_HOST_GONE: Final = 0
EXIT_FAILED: Final = 1
EXIT_MEMORY: Final = 70
"""Not even the report of a cell fitted into the memory limit."""
