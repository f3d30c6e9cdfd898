"""An attack counts only if it works where nothing stops it: in plain Python."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.attacks.attack_corpus import Attack, own_attacks

# Found and verified with CPython 3.11; what other versions make of a gadget differs.
pytestmark = pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the gadgets are those of Python 3.11")
REAL = [attack for attack in own_attacks() if attack.real != "argued" and attack.applies]


@pytest.fixture(scope="module")
def attempt(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Attack], dict[str, Any]]]:
    directory = str(tmp_path_factory.mktemp("plain"))
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox.language.plain_runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None

        def run(attack: Attack) -> dict[str, Any]:
            request = {"source": attack.source, "probe": attack.probe, "directory": directory}
            runner.stdin.write(json.dumps(request) + "\n")
            runner.stdin.flush()
            verdict: dict[str, Any] = json.loads(runner.stdout.readline())
            return verdict

        yield run
        runner.stdin.close()


@pytest.mark.parametrize("attack", REAL, ids=[attack.id for attack in REAL])
def test_an_attack_works_in_plain_python(attack, attempt):
    verdict = attempt(attack)
    if attack.real == "crash":
        assert verdict.get("died", "").startswith("SIG"), verdict
    elif attack.real == "plain-tamper":
        assert verdict["probe"] != attack.expect, verdict
    else:
        assert verdict.get("leak"), verdict


def test_the_corpus_is_as_large_and_as_varied_as_it_claims():
    attacks = own_attacks()
    assert len({attack.id for attack in attacks}) == len(attacks) >= 900
    assert len({attack.family for attack in attacks}) >= 300
    assert len(REAL) >= 400
