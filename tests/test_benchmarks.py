"""What the benchmarks say can be relied on: figures are formatted right, and a failure ends in an error."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import __main__ as runner
from benchmarks import measure
from benchmarks.security import __main__ as security
from benchmarks.security import fuzz
from benchmarks.security.report import Part

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0000021, "2 us"), (0.00123, "1.23 ms"), (0.0567, "56.7 ms"), (0.8, "800 ms"), (12.345, "12.35 s")],
)
def test_seconds_are_given_in_the_unit_that_fits(value, text):
    assert measure.seconds(value) == text


@pytest.mark.parametrize(("value", "text"), [(0.5, "0.25x"), (30, "15.0x"), (400, "200x")])
def test_ratios_have_three_digits(value, text):
    assert measure.ratio(value, 2) == text


def test_a_table_is_aligned(capsys):
    measure.table("title", ["name", "value"], [("a", 1), ("longer", 22)])
    assert capsys.readouterr().out == "\ntitle\nname    value\n------  -----\na           1\nlonger     22\n"


def test_all_measurements_are_found_and_an_unknown_one_is_refused(capsys):
    assert {"sandbox", "security"} <= set(runner.available())
    assert runner.main(["no such"]) == 2
    assert "sandbox" in capsys.readouterr().err


@pytest.mark.parametrize(("part", "status"), [(Part("fine"), 0), (Part("not fine", {"what": "why"}), 1)])
def test_make_security_fails_when_a_part_does(part, status, monkeypatch, capsys):
    monkeypatch.setattr(security, "PARTS", {"one": lambda: [Part("first")], "two": lambda: [part]})
    assert security.main() == status
    printed = capsys.readouterr().out
    assert ("FAIL  not fine" in printed) == bool(status)
    assert ("not ok: what: why" in printed) == bool(status)


def test_a_part_that_does_not_exist_is_not_a_success(capsys):
    assert security.main(["no such"]) == 2
    assert "attacks" in capsys.readouterr().err


def test_a_tally_counts_what_fails_and_what_hangs(monkeypatch):
    tally = fuzz.Tally()
    tally.run(lambda: None, "fine")
    tally.run(lambda: 1 / 0, "raises")
    tally.run(lambda: pytest.fail("found"), "fails")
    monkeypatch.setattr(fuzz, "_HANG_SECONDS", -1)
    tally.run(lambda: None, "slow")
    assert (tally.tried, tally.hangs, set(tally.failures)) == (4, 1, {"raises", "fails", "slow"})


def test_the_benchmark_of_the_sandbox_runs():
    command = [sys.executable, "-m", "benchmarks.sandbox", "inputs", "--largest", "1"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    assert "str, not ASCII, 1 MB" in done.stdout
