"""Options that the graph, the chat model and the DSPy module share: each is checked in one place."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from rlm_adapters.errors import InputError
from rlm_adapters.events import EventHandler
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.targets import ModelTarget
from rlm_adapters.sandbox import Executor, Isolation, MontySandbox, Sandbox, SandboxLimits

SandboxChoice: TypeAlias = Executor | Literal["monty"]
"""What runs the cells: a `Sandbox` to share, another `Executor`, or pydantic-monty."""


def check_sandbox(sandbox: SandboxChoice | None) -> None:
    """Refuse unknown names of executors.

    Raises:
        InputError: the name is unknown.
    """
    if isinstance(sandbox, str) and sandbox != "monty":
        raise InputError(f'sandbox={sandbox!r} is unknown: use "monty", or give a Sandbox')


def executor_of(
    sandbox: SandboxChoice | None, limits: SandboxLimits | None = None, require: Isolation | None = None
) -> Executor:
    """The given executor, or a new one.

    Args:
        sandbox: the choice; None: a `Sandbox`.
        limits: limits of the sessions of a new executor.
        require: isolation that a new executor must have.

    Raises:
        InputError: the executor is unknown.
        IsolationError: ``require`` cannot be met.
    """
    check_sandbox(sandbox)
    if sandbox is None:
        return Sandbox(limits=limits or SandboxLimits(), require=require)
    if isinstance(sandbox, str):
        return MontySandbox(limits=limits or SandboxLimits(), require=require)
    return sandbox


def check_listener(on_event: Any) -> EventHandler | None:
    """Check that a listener can be called.

    Raises:
        InputError: it cannot be called.
    """
    if on_event is not None and not callable(on_event):
        raise InputError(f"on_event={on_event!r}: give a function that takes an Event")
    handler: EventHandler | None = on_event
    return handler


def check_prices(limits: Limits, prices: PriceTable, models: Iterable[ModelTarget]) -> None:
    """Refuse a cost limit that cannot be checked.

    Raises:
        InputError: a model's price is unknown.
    """
    if limits.max_cost is not None:
        for model in models:
            prices.require(model.name)
