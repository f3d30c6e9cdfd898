"""Collect what a node reads from the content store and writes into it, so that it waits only once for each.

No file may be touched on an event loop. So a node first loads what it needs (`Stored.load`) and then reads it from
memory. It gives new content to `Stored.write`, and `Stored.finish` stores all of it at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from rlm_adapters.effects import Steps, Wait, off_loop
from rlm_adapters.errors import ContentError
from rlm_adapters.values.content import OwnedStore, is_small
from rlm_adapters.values.refs import ContentRef, Packed, is_ref


@dataclass(slots=True, eq=False)
class _Later:
    """A placeholder for a value that is stored when the node has ended."""

    value: Any
    make: Callable[[Callable[[Any], ContentRef]], Any] | None = None
    """Makes the value when it is stored, with a function that stores its parts."""


class Stored:
    """The content of one node execution.

    Args:
        store: of the run.
        run_id: for errors.
    """

    def __init__(self, store: OwnedStore, run_id: str = "") -> None:
        self._store = store
        self._run_id = run_id
        self._loaded: dict[bytes, Any] = {}
        self._later: list[_Later] = []

    def load(self, *parts: Any) -> Steps[None]:
        """Read all content that these parts of a state refer to, at any depth.

        Raises:
            ContentError: content cannot be read.
        """
        missing: dict[bytes, ContentRef] = {}
        for packed in refs_in(parts):
            if packed in self._loaded or packed in missing:
                continue
            ref = ContentRef.from_state(packed)
            known = self._store.store.known(ref)
            if known is not None:
                self._loaded[packed] = known
            else:
                missing[packed] = ref
        if missing:
            self._loaded |= yield self._waiting(
                lambda: {packed: self._store.store.get(ref) for packed, ref in missing.items()}
            )

    def read(self, packed: Packed) -> Any:
        """A value of the state. A stored value must be loaded before."""
        if isinstance(packed, _Later):
            return packed.value
        return self._loaded[packed] if is_ref(packed) else packed

    def write(self, value: Any) -> Packed:
        """A placeholder for a value, to use in the result of the node."""
        if is_small(value):
            return value
        later = _Later(value)
        self._later.append(later)
        return later

    def write_made(self, make: Callable[[Callable[[Any], ContentRef]], Any]) -> Packed:
        """Like `write`, for a value with references to parts that are stored separately.

        Args:
            make: makes the value; gets a function that stores a part of it.
        """
        later = _Later(None, make)
        self._later.append(later)
        return later

    def finish(self, update: dict[str, Any]) -> Steps[dict[str, Any]]:
        """The result of the node, with references to the stored content.

        Raises:
            ContentError: content cannot be stored.
        """
        if not self._later:
            return update
        packed: dict[int, Packed] = yield self._waiting(
            lambda: {id(later): self._store.put(self._value(later)).to_state() for later in self._later}
        )
        finished: dict[str, Any] = _replaced(update, packed)
        return finished

    def _value(self, later: _Later) -> Any:
        return later.value if later.make is None else later.make(self._store.put)

    def _waiting(self, work: Callable[[], Any]) -> Wait:
        def run() -> Any:
            try:
                return work()
            except ContentError as error:
                raise ContentError(f"run {self._run_id}: {error}") from error

        return off_loop(run)


def refs_in(value: Any) -> Iterator[bytes]:
    """All references in a part of a state, at any depth."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if is_ref(one):
            yield one
        elif isinstance(one, dict):
            waiting += one.values()
        elif isinstance(one, list | tuple):
            waiting += one


def _replaced(value: Any, packed: dict[int, Packed]) -> Any:
    """A copy with references instead of placeholders."""
    if isinstance(value, _Later):
        return packed[id(value)]
    if type(value) is dict:
        return {key: _replaced(item, packed) for key, item in value.items()}
    if type(value) is list:
        return [_replaced(item, packed) for item in value]
    return value
