"""What a driver is. It runs in the peer's virtual environment, so this needs the standard library only."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, cast

Way: TypeAlias = Literal["repl", "python", "dspy", "plan", "tool"]
"""How a reply holds a cell: a fence, DSPy's fields, JSON with a plan, or a tool call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """How a peer spells what a cell uses."""

    title: str
    packages: tuple[str, ...]
    """What is installed."""
    version_of: str
    """The package whose version is shown."""
    way: Way
    context: str
    final: str
    """Statement that ends a run with ``{answer}``."""
    ask: str
    """Expression that asks a sub-LM the prompt ``{prompt}``."""
    batch: str | None
    """Expression that asks all of ``{prompts}``; None: the package has none."""
    tool: tuple[str, str] = ("", "")
    """Name of the tool that runs a cell, and of its argument."""
    ends_with_text: bool = False
    """A run ends with a reply without a cell."""
    sub_reply: str = "{text}"
    """What a sub-LM must answer to say ``{text}``."""
    deno: bool = False
    limits: str = "none"
    """What bounds a cell, with the setting that was used here."""
    environment: str = ""
    """Name of the virtual environment; empty: that of the driver."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """What a driver is given."""

    base_url: str
    api_key: str
    model: str
    max_iterations: int
    max_calls: int
    cell_seconds: float | None = None
    """For packages that can bound the time of a cell; None: their default."""
    cell_megabytes: int | None = None
    """The same for its memory."""
    max_concurrency: int | None = None
    """For packages that bound the model calls in flight; None: their default."""


@dataclass(frozen=True, slots=True)
class Driver:
    """How runs are made: ``run(query, context)``, and ``arun`` if the package is async."""

    run: Callable[[str, str], str]
    arun: Callable[[str, str], Awaitable[str]] | None = None


class Module(Protocol):
    """A module in `drivers`."""

    DIALECT: Dialect

    def make(self, config: Config) -> Driver: ...


NAMES: Mapping[str, str] = {
    "graph": "graph",
    "chat": "chat",
    "module": "module",
    "exec": "floor",
    "rlms": "rlms",
    "recursive-llm": "recursive_llm",
    "minrlm": "minrlm",
    "dspy": "dspy_deno",
    "dspy-monty": "dspy_monty",
    "rlmagents": "rlmagents",
    "predict-rlm": "predict_rlm",
}
"""Modules by the names of the peers; ours first, then the floor."""
OURS = ("graph", "chat", "module")
FLOOR = "exec"


def load(peer: str) -> Module:
    """The driver of a peer."""
    return cast("Module", importlib.import_module(f"benchmarks.peers.drivers.{NAMES[peer]}"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What the program in the peer's environment does."""

    peer: str
    config: Config
    megabytes: float = 0.001
    runs: int = 1
    together: bool = False
    """All runs at once; else one after the other."""
