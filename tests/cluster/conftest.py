"""A cluster of three nodes on this machine, one for all tests: processes of their own, as on three machines."""

import os
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tests.cluster.nodes import Nodes

# Ray reads these when it is imported: nothing is sent anywhere.
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_enable_metrics_collection", "0")


@pytest.fixture(scope="session")
def nodes() -> Iterator[Nodes]:
    """The cluster; a test that kills a node leaves three again."""
    with Nodes() as nodes:
        yield nodes


@pytest.fixture(scope="session")
def _far(nodes: Nodes) -> Iterator[Any]:
    from rlm_adapters import RaySandbox

    with RaySandbox(address=nodes.address, num_cpus=0.5, actors=3, require="os") as sandbox:
        yield sandbox


@pytest.fixture
def far(_far: Any) -> Any:
    """A sandbox on the cluster, one for the tests that break nothing; all three of its actors are ready."""
    _far.isolation  # noqa: B018 - connects
    deadline = time.monotonic() + 120
    while len(_far.sessions()) < 3:
        assert time.monotonic() < deadline, _far.sessions()
        time.sleep(0.1)
    return _far
