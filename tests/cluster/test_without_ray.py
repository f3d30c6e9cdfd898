"""What happens where Ray is not installed."""

import sys

import pytest

from rlm_adapters import RLM, RayEngine, RayJob, RayProgram, RaySandbox
from rlm_adapters.errors import MissingExtraError


@pytest.mark.parametrize(
    ("name", "make"),
    [
        ("RaySandbox", RaySandbox),
        ("RayEngine", lambda: RayEngine(RaySandbox)),
        ("RayJob", RayJob),
        ("RayProgram", lambda: RayProgram(RLM("text -> count: int"))),
    ],
)
def test_what_runs_on_a_cluster_says_what_to_install(monkeypatch, name, make):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=rf'{name} needs Ray: pip install "rlm-adapters\[ray\]"'):
        make()
