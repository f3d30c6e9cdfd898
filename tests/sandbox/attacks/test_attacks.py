"""Every given attack against the language policy alone, by its class.

The verdict comes from outside of the sandbox (`attack_oracle`): what is bound to ``PWN``, and what reached the real
streams. Limits and the operating system's layers are tested through sessions (`test_corpus`).
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.sandbox.attacks.attack_corpus import Attack, given_attacks

ATTACKS = [
    pytest.param(attack, id=f"{attack.family}-{attack.id}") for attack in given_attacks() if attack.kind != "dos"
]


@pytest.fixture(scope="module")
def attempt() -> Iterator[Callable[[Attack, str], dict[str, Any]]]:
    """Runs an attack, and a probe after it, in a fork of a process that has everything loaded."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.sandbox.attacks.attack_runner"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[3],
    ) as runner:
        assert runner.stdin is not None
        assert runner.stdout is not None

        def run(attack: Attack, probe: str) -> dict[str, Any]:
            request = {"source": attack.source, "files": attack.files, "probe": probe}
            runner.stdin.write(json.dumps(request) + "\n")
            runner.stdin.flush()
            verdict: dict[str, Any] = json.loads(runner.stdout.readline())
            return verdict

        yield run
        runner.stdin.close()


PROBE = """
import json
from collections import Counter
from functools import wraps
print(json.dumps({'a': [1]}), Counter('aab').most_common(1), llm_query('x'), obj.value)
"""
UNTOUCHED = "{\"a\": [1]} [('a', 2)] ok 1\n"


@pytest.mark.parametrize("attack", ATTACKS)
def test_a_given_attack_is_stopped(attack, attempt):
    verdict = attempt(attack, PROBE)
    assert "died" not in verdict, verdict
    assert "broken" not in verdict, verdict
    assert verdict["leak"] is None, verdict
    assert verdict["streams"] == "", verdict
    assert verdict["probe"] == UNTOUCHED, verdict


def test_an_attack_that_succeeds_is_noticed(attempt):
    """An oracle that sees nothing would pass everything."""
    successes = {
        "PWN = raw_query": False,
        "PWN = 'S3CR3T-TOKEN'": True,
        "PWN = ['S3CR3T-TOKEN']": True,
    }
    for source, noticed in successes.items():
        attack = Attack(id="x", family="x", kind="escape", source=source)
        assert bool(attempt(attack, PROBE)["leak"]) is noticed, source
