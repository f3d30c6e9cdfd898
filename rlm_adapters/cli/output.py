"""Showing an answer on standard output."""

from __future__ import annotations

import sys

import typer
from rich.console import Console
from rich.panel import Panel
from rich.text import Text

from rlm_adapters.views.console import safe


def print_answer(text: str) -> None:
    """As it is into a pipe; framed, and with control characters made visible, on a terminal."""
    if sys.stdout.isatty():
        Console().print(Panel(Text(safe(text)), title="answer", title_align="left", border_style="bold green"))
    else:
        typer.echo(text.encode("utf-8", "replace"))
