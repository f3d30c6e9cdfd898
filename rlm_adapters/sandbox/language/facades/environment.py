"""The objects that the facade modules of one session share."""

from __future__ import annotations

import functools
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib.resources import files
from types import CodeType
from typing import Any, TypeAlias

from rlm_adapters.sandbox.language.classes import Classes
from rlm_adapters.sandbox.language.facade import Facade
from rlm_adapters.sandbox.language.guards import Guards
from rlm_adapters.sandbox.language.policy import compile_cell
from rlm_adapters.sandbox.language.tracebacks import CellSources
from rlm_adapters.sandbox.runtime.clock import VirtualClock
from rlm_adapters.sandbox.runtime.files import FileSystem
from rlm_adapters.sandbox.runtime.output import Output
from rlm_adapters.sandbox.runtime.tasks import Scheduler


@dataclass(slots=True, kw_only=True)
class Environment:
    """The parts of a session that its modules use."""

    classes: Classes
    guards: Guards
    output: Output
    files: FileSystem
    clock: VirtualClock
    random: random.Random
    scheduler: Scheduler
    sources: CellSources
    import_module: Callable[[str], Facade]
    builtins: dict[str, Any] = field(default_factory=dict)

    def run_guest(self, name: str, primitives: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Run the source of a module under the same policy as the cells, and return its names.

        Such a module can do only what a cell can do, so it needs no security review of its own.

        Args:
            name: the module.
            primitives: functions that it uses.
        """
        namespace: dict[str, Any] = {"__builtins__": self.builtins, "__name__": name, **(primitives or {})}
        before = set(self.classes.own)
        exec(guest_code(name), namespace)  # noqa: S102 - compiled under the policy
        self.classes.guest |= self.classes.own - before
        return {key: value for key, value in namespace.items() if key[:1] != "_"}


Builder: TypeAlias = Callable[[Environment], Mapping[str, object]]
"""Makes the names of one module for one session."""


@functools.cache
def guest_code(name: str) -> CodeType:
    """The compiled source of a guest module, cached because it is the same in every session."""
    source = files("rlm_adapters.sandbox.language.guest").joinpath(f"{name}.py").read_text(encoding="utf-8")
    return compile_cell(source, f"<sandbox {name}>")
