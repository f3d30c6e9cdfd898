"""No reply takes longer than in proportion to its length."""

from __future__ import annotations

import json
import subprocess
import sys
import warnings
from pathlib import Path

import pytest

from rlm_adapters.replies import read_reply
from tests.replies.shapes import READERS, SHAPES, is_linear

_KILL_AFTER = 900  # seconds for what takes half a minute; quadratic readers took hours


@pytest.fixture(scope="module")
def measured() -> dict[str, dict[str, tuple[float, float]]]:
    command = [sys.executable, "-W", "error", "-m", "tests.replies.shapes"]
    try:
        done = subprocess.run(
            command, cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=_KILL_AFTER, check=False
        )
    except subprocess.TimeoutExpired as late:
        printed = (late.stdout or b"").decode()
        pytest.fail(f"killed after {_KILL_AFTER} s; the last shape that was read: {printed.splitlines()[-1:]}")
    assert done.returncode == 0, done.stderr[-2_000:]
    times: dict[str, dict[str, tuple[float, float]]] = {}
    for line in done.stdout.splitlines():
        shape, reader, short, long = json.loads(line)
        times.setdefault(shape, {})[reader] = (short, long)
    return times


@pytest.mark.slow
@pytest.mark.parametrize("shape", SHAPES)
def test_a_hundred_kilobytes_of_a_shape_are_read_in_linear_time(
    shape: str, measured: dict[str, dict[str, tuple[float, float]]]
) -> None:
    times = measured[shape]
    assert set(times) == set(READERS)
    assert {reader: pair for reader, pair in times.items() if not is_linear(*pair)} == {}


@pytest.mark.parametrize("code", ["x = 1if y else 2", "x = 0x1for", "a = [1for i in y]", "f(1or 2)"])
def test_the_parser_warns_nobody_about_numbers_glued_to_words(code: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert read_reply(f"```python\n{code}\n```").code == (code,)


def test_a_long_number_at_a_line_start_is_no_line_number() -> None:
    reading = read_reply(f"```python\n{'1' * 5_000} x =\n2 y\n```")
    assert reading.kind in ("code", "repair")
