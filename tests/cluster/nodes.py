"""A small Ray cluster on this machine, whose nodes can be killed."""

from __future__ import annotations

import time
from typing import Any, Self

OF_EACH = {"num_cpus": 1, "object_store_memory": 150 << 20}


class Nodes:
    """Three nodes; each is a set of processes, as one machine of a cluster would run them."""

    def __enter__(self) -> Self:
        from ray.cluster_utils import Cluster

        self._cluster = Cluster()
        _patiently(lambda: self._cluster.add_node(include_dashboard=False, **OF_EACH))
        self._others: list[Any] = []
        self.add()
        self.add()
        self._cluster.wait_for_nodes(timeout=180)
        return self

    def __exit__(self, *_: object) -> None:
        import ray

        ray.shutdown()
        self._cluster.shutdown()

    @property
    def address(self) -> str:
        """``host:port``."""
        return str(self._cluster.address)

    def kill(self) -> str:
        """Kill a node's processes with SIGKILL; gives its id."""
        node: Any = self._others.pop(0)
        self._cluster.remove_node(node, allow_graceful=False)
        return str(node.node_id)

    def add(self) -> None:
        """A new node."""
        self._others.append(_patiently(lambda: self._cluster.add_node(wait=False, **OF_EACH)))


def _patiently(add: Any) -> Any:
    """Ray gives a node 30 seconds to start, which is not enough on a busy machine: that node is left, and another made."""
    for attempt in range(4):
        try:
            return add()
        except Exception as error:
            if "timed out during startup" not in str(error) or attempt == 3:
                raise
    raise AssertionError("unreachable")


def until(true: Any, seconds: float = 300.0) -> None:
    """Wait until something is true."""
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.05)
