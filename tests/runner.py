"""The command `rlm` in this process, with its two outputs apart: click below 8.2 mixes them if it is not told."""

import inspect
from typing import Any

from typer import testing


class CliRunner(testing.CliRunner):
    def __init__(self, **options: Any) -> None:
        apart = {"mix_stderr": False} if "mix_stderr" in inspect.signature(testing.CliRunner).parameters else {}
        super().__init__(**apart, **options)
