"""`SessionSpec`: the settings of a session."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from rlm_adapters.sandbox.host.inputs import Inputs
from rlm_adapters.sandbox.protocol.frames import Message, to_wire
from rlm_adapters.sandbox.protocol.types import HostFunction, SandboxLimits


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionSpec:
    """The settings of a session: everything that a new worker needs in addition to the journal."""

    inputs: Inputs
    functions: tuple[HostFunction, ...]
    limits: SandboxLimits
    output_fields: tuple[str, ...] | None
    seed: int
    epoch: float
    allow_modules: tuple[str, ...]
    layers: tuple[str, ...]
    plain: bool = False
    ahead: bool = False
    """Whether workers can fork themselves to run cells ahead."""

    @property
    def offered(self) -> frozenset[str]:
        """Names of the functions that a call can have. A batch arrives as calls of its single function."""
        return frozenset(function.batch_of or function.name for function in self.functions)

    @property
    def pure(self) -> frozenset[str]:
        """Names of the functions that are LM calls without effects. They can be called ahead."""
        effects = {function.name for function in self.functions if function.effects}
        return frozenset(f.batch_of or f.name for f in self.functions if not f.effects) - effects

    def begin(self) -> Message:
        """The frame that starts a session in a worker with its inputs."""
        return {
            "t": "begin",
            "functions": [
                to_wire({**asdict(f), "parameters": None if f.parameters is None else list(f.parameters)})
                for f in self.functions
            ],
            "output_fields": None if self.output_fields is None else list(self.output_fields),
            "output_chars": self.limits.output_chars,
            "file_bytes": self.limits.file_bytes,
            "frame_bytes": self.limits.frame_bytes,
            "memory_bytes": self.limits.memory_bytes,
            "seed": self.seed,
            "epoch": self.epoch,
            "epochs": self.inputs.epochs,
            "allow_modules": list(self.allow_modules),
            "layers": list(self.layers),
            "plain": self.plain,
            "ahead": self.ahead,
        }
