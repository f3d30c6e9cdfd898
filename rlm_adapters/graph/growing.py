"""Parts of the state that only grow: each checkpoint holds what its step added, not all that was there before.

A list that each step writes whole makes the bytes of a run grow with the square of its iterations: 40 of them took
15.7 MB in SQLite, and take 2.4 MB this way. LangGraph's `DeltaChannel` keeps the writes of the steps, and puts them
together again when a thread is loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Self

from langgraph.channels import DeltaChannel
from langgraph.checkpoint.base import PendingWrite

from rlm_adapters.errors import CheckpointError

_SNAPSHOT_EVERY: Final = 50
"""Updates between two checkpoints that hold a part whole: so many at most are put together when a thread is loaded.

40 iterations have none; at 200 the snapshots are a sixth of the bytes.
"""


class Growing(DeltaChannel[Any]):
    """A part of the state that grows by a reducer of two values.

    `prepare` begins it with None. So a history in which there is no None, and no checkpoint that holds the part whole,
    has lost its beginning.

    Args:
        reducer: of the value and all writes of some steps, in order; see `each`.
    """

    __slots__ = ("_began",)

    def __init__(self, reducer: Callable[[Any, Sequence[Any]], Any], typ: Any = None, **options: Any) -> None:
        super().__init__(reducer, typ, **{"snapshot_frequency": _SNAPSHOT_EVERY, **options})
        self._began = True

    def from_checkpoint(self, checkpoint: Any) -> Self:
        """The channel with what a checkpoint holds; those of form 3 of the state hold the plain value."""
        new = super().from_checkpoint(checkpoint)
        missing = self.checkpoint()  # a `DeltaChannel` always gives LangGraph's MISSING
        new._began = checkpoint is not None and checkpoint is not missing  # noqa: SLF001 - of the same class
        return new

    def replay_writes(self, writes: Sequence[PendingWrite]) -> None:
        """Put together what the steps since the beginning have written.

        Raises:
            CheckpointError: the beginning is gone.
        """
        if not self._began and not any(value is None for _, _, value in writes):
            raise CheckpointError(
                f"the beginning of {self.key!r} of this run is not in the checkpointer any more: the thread's earlier "
                "checkpoints were deleted, or the checkpointer keeps only the newest, as ShallowPostgresSaver does. "
                "Use one that keeps the history of a thread, and delete whole threads"
            )
        super().replay_writes(writes)


def at_exit(channels: Mapping[str, Any]) -> dict[str, Any]:
    """The channels of a graph for a call that saves only when it ends: one checkpoint, which holds all of them whole.

    LangGraph would save a checkpoint without anything in it and the writes of all steps before that one. A process that
    is killed between them leaves a thread that cannot go on.
    """
    changed = dict(channels)
    for key, one in channels.items():
        if isinstance(one, Growing):
            changed[key] = whole = one.copy()
            whole.snapshot_frequency = 1
    return changed


def each(reducer: Callable[[Any, Any], Any]) -> Callable[[Any, Sequence[Any]], Any]:
    """A reducer of two values, for many writes one after the other."""

    def reduce(value: Any, writes: Sequence[Any]) -> Any:
        for write in writes:
            value = reducer(value, write)
        return value

    return reduce
