"""The whole corpus through real sessions: cells run as in plain Python, attacks reach nothing of the host.

The policy's part of the attacks is in test_attacks_own; here it is switched off, and the operating system's layers
stand alone.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

from rlm_adapters.sandbox import Done, Sandbox
from tests.sandbox.attacks.attack_corpus import given_attacks, own_attacks
from tests.sandbox.attacks.attack_sweep import sweep_bare, sweep_session
from tests.sandbox.attacks.test_attacks_own import LIMITS
from tests.sandbox.corpus_cells import compare_cells, compare_real_cells
from tests.sandbox.hardening.os_oracle import Host

ENDLESS = [attack for attack in (*given_attacks(), *own_attacks()) if attack.kind == "dos"]
ATTACKS = [attack for attack in (*given_attacks(), *own_attacks()) if attack.kind != "dos"]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    with Sandbox() as sandbox:
        yield sandbox


def test_the_cells_that_models_write_print_and_submit_what_plain_python_does(sandbox):
    compared = compare_cells(sandbox)
    assert len(compared) >= 47
    assert [one for one in compared if not one.equal] == []


def test_the_cells_of_real_runs_print_and_submit_what_plain_python_does(sandbox):
    compared = compare_real_cells(sandbox)
    assert len(compared) >= 20
    assert [one.id for one in compared if one.plain.error] == [], "their inputs no longer fit them"
    assert [one for one in compared if not one.equal] == []


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host() as host:
        yield host


@pytest.fixture(scope="module")
def bare_sandbox(host) -> Iterator[Sandbox]:
    if sys.platform != "linux":
        pytest.skip("Landlock and seccomp are Linux's")
    with Sandbox(limits=LIMITS, parallel="off", _policy_off=True) as sandbox:
        if sandbox.isolation != "os":
            pytest.skip(f"this machine does not confine workers fully: {sandbox.report}")
        yield sandbox


def test_with_the_policy_off_no_attack_reaches_the_host(host, bare_sandbox):
    assert sweep_bare(ATTACKS, bare_sandbox, host, threads=8) == {}
    assert host.attempts > 20 * len(ATTACKS)
    assert host.mute < len(ATTACKS) / 50


@pytest.mark.skipif("FUZZ" not in os.environ, reason="`make fuzz` runs it")
def test_with_the_policy_off_no_endless_attack_reaches_the_host(host, bare_sandbox):
    assert sweep_bare(ENDLESS, bare_sandbox, host, threads=8) == {}


def test_sessions_withstand_the_given_attacks():
    with Sandbox(limits=LIMITS) as sandbox:
        assert sweep_session(given_attacks(), sandbox, threads=8) == {}


def test_without_the_operating_systems_layers_the_same_attempts_succeed(host):
    """An oracle that sees nothing would pass everything."""
    with Sandbox(limits=LIMITS, parallel="off", _policy_off=True, _layers=["rlimits"]) as sandbox, sandbox.open() as s:
        assert isinstance(s.start("PWN = open('/etc/passwd').read()"), Done)
        with Host() as another:
            found = another.reached(s)
    assert {"read a file", "listed a directory", "connected to loopback", "forked"} <= set(found)
    assert {"changed the host's files", "connected to the host"} <= set(found)
    assert any(what.startswith("showed") for what in found)
