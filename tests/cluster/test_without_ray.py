"""What happens where Ray is not installed."""

import sys

import pytest

from rlm_adapters import RaySandbox
from rlm_adapters.errors import MissingExtraError


def test_a_sandbox_on_a_cluster_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r'RaySandbox needs Ray: pip install "rlm-adapters\[ray\]"'):
        RaySandbox()
