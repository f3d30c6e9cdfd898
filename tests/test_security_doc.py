"""docs/security.md is true where a test can tell: its code runs, its files exist, its numbers are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from rlm_adapters.sandbox import Executor, ExecutorSession, SandboxLimits
from rlm_adapters.sandbox.hardening.seccomp import ALLOWED

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs" / "security.md").read_text()
FLAT = " ".join(TEXT.split())


def test_its_code_runs(capsys):
    (block,) = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
    exec(compile(block, "security.md", "exec"), {})
    level = capsys.readouterr().out.splitlines()[0]
    assert level in ("os", "process")


def test_the_files_that_it_names_exist():
    names = set(re.findall(r"`((?:rlm_adapters|tests)/[\w/.]+)`", TEXT))
    names |= {f"tests/sandbox/{name}" for name in re.findall(r"`(test_\w+\.py)`", TEXT)}
    names |= {f"rlm_adapters/sandbox/{name}" for name in re.findall(r"(?<=[ `])((?!test_)[a-z_]+\.py)`", TEXT)}
    assert len(names) > 10
    assert [name for name in sorted(names) if not (ROOT / name).exists()] == []


def test_its_limits_are_the_defaults():
    limits = SandboxLimits()
    assert f"{limits.cpu_seconds:.0f} s of CPU per cell; {limits.wall_seconds:.0f} s of wall time" in FLAT
    assert f"{limits.output_chars:,} characters of output" in FLAT
    assert f"{limits.file_bytes >> 20} MB of files written; {limits.frame_bytes >> 20} MB for one frame" in FLAT
    assert limits.memory_bytes is None


def test_its_number_of_system_calls_is_about_right():
    assert "some thirty system calls" in FLAT
    assert 25 <= len({*ALLOWED, "mmap", "mprotect", "clone"}) <= 35


def test_the_methods_that_it_lists_are_those_of_the_protocol():
    for name in ("start", "resume", "journal", "kill", "close"):
        assert hasattr(ExecutorSession, name)
    listed = re.search(r"executor\.open\((.*?)\)", FLAT)
    assert listed is not None
    for name in re.findall(r"(\w+)=", listed.group(1)):
        assert name in Executor.open.__annotations__
