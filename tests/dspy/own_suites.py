"""DSPy's own tests, run on its classes and on ours: ``python -m tests.dspy.own_suites CHECKOUT``.

CHECKOUT is a checkout of DSPy's public repository, at the installed version or as near as can be had. Nothing of it is
kept here. Writes ``own_suites.md`` beside this file: a table of counts, and each test that fails on ours or that only ours
passes, with its first line. Why each of them fails is told in ``own_reasons.md``, by hand.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from importlib import metadata
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parents[2]
OURS_RLM = "rlm_adapters.dspy.module:RLM"
OURS_INTERPRETER = "rlm_adapters.dspy.interpreter:RestrictedPythonInterpreter"
DSPY_LOCAL = "dspy.primitives.local_interpreter:LocalInterpreter"

SUITES = {
    "RLM": "tests/predict/test_rlm.py",
    "code interpreter": "tests/primitives/test_code_interpreter.py",
    "sandbox serialisation": "tests/primitives/test_sandbox_serializable.py",
    "modules": "tests/primitives/test_module.py tests/primitives/test_base_module.py",
    "local interpreter": "tests/primitives/test_local_interpreter.py",
    "Python interpreter": "tests/primitives/test_python_interpreter.py",
    "program of thought, CodeAct": "tests/predict/test_program_of_thought.py tests/predict/test_code_act.py",
    "interpreter callbacks": "tests/callback/test_interpreter_callback.py",
    "Flex": "tests/flex/test_flex_interpreter.py tests/flex/test_flex_binding.py tests/flex/test_flex_output_types.py",
}
"""Files by what they are about; those that a checkout lacks are left out."""


class Outcome(NamedTuple):
    """How a test ended.

    Attributes:
        kind: ``passed``, ``failed`` or ``skipped``.
        message: first line of the failure.
    """

    kind: str
    message: str = ""


Outcomes = dict[str, Outcome]


def run(checkout: Path, files: str, rlm: str = "", interpreter: str = "") -> Outcomes:
    """Outcome of each test of some files, with these classes in the place of DSPy's."""
    present = [file for file in files.split() if (checkout / file).exists()]
    if not present:
        return {}
    with tempfile.TemporaryDirectory() as directory:
        report = Path(directory) / "report.xml"
        deno = ["--deno"] if interpreter else []  # without one of these, what needs Deno is skipped
        subprocess.run(
            [
                sys.executable, "-m", "pytest", "-q", "-p", "tests_dspy_pointed", "-p", "no:cacheprovider",
                f"--junitxml={report}", *deno, *present,
            ],
            cwd=checkout,
            env={
                **os.environ,
                "POINTED_RLM": rlm,
                "POINTED_INTERPRETER": interpreter,
                "PYTHONPATH": os.pathsep.join([str(_plugin(Path(directory))), str(HERE)]),
            },
            capture_output=True,
            check=False,
            timeout=1_200,
        )  # fmt: skip
        cases = ET.parse(report).iter("testcase") if report.exists() else ()
        return {f"{case.get('classname')}::{case.get('name')}": _outcome(case) for case in cases}


def _plugin(directory: Path) -> Path:
    """The plugin under a name that the checkout's own ``tests`` package does not hide."""
    (directory / "tests_dspy_pointed.py").write_text((HERE / "tests/dspy/pointed.py").read_text())
    return directory


def _outcome(case: ET.Element) -> Outcome:
    if case.find("skipped") is not None:
        return Outcome("skipped")
    for kind in ("failure", "error"):
        if (found := case.find(kind)) is not None:
            return Outcome("failed", " ".join((found.get("message") or "").split())[:200])
    return Outcome("passed")


def counts(outcomes: Outcomes) -> str:
    """``passed/failed/skipped``."""
    found = Counter(outcome.kind for outcome in outcomes.values())
    return "/".join(str(found[key]) for key in ("passed", "failed", "skipped"))


def report(checkout: Path) -> str:
    """The page: counts by suite, and each test of ours that fails, or passes where DSPy's classes fail."""
    version = re.search(r'^version\s*=\s*"([^"]+)"', (checkout / "pyproject.toml").read_text(), re.MULTILINE)
    rows, details = [], []
    for title, files in SUITES.items():
        alone = run(checkout, files)
        if not alone:
            rows.append(f"| {title} | not in this checkout | | |")
            continue
        local = run(checkout, files, interpreter=DSPY_LOCAL)
        ours = run(checkout, files, OURS_RLM, OURS_INTERPRETER)
        rows.append(f"| {title} | {counts(alone)} | {counts(local)} | {counts(ours)} |")
        told = []
        for name, outcome in sorted(ours.items()):
            others = {one[name].kind for one in (alone, local) if name in one}
            passed = "passed" in others
            if outcome.kind == "failed" or (outcome.kind == "passed" and not passed):
                message = outcome.message.replace("`", "'").replace(str(checkout), "CHECKOUT")[:120]
                verdict = f"{outcome.kind} on ours, {'passed' if passed else 'failed'} on DSPy's"
                told.append(f"- `{name.rpartition('.')[2]}`: {verdict}" + (f": `{message}`" if message else ""))
        details += [f"## {title}", "", *told, ""] if told else []
    written = (
        "Written by `python -m tests.dspy.own_suites CHECKOUT`; do not edit. Why tests fail on ours: "
        "[own_reasons.md](own_reasons.md)."
    )
    figures = (
        f"With dspy {metadata.version('dspy')} and the tests of {version[1] if version else 'an unknown version'}. "
        "Passed/failed/skipped; what needs Deno is skipped in the first column, and run in the others."
    )
    return "\n".join([
        "# DSPy's own tests, on DSPy's classes and on ours",
        "",
        written,
        "",
        figures,
        "",
        "| suite | DSPy alone | DSPy on its LocalInterpreter | ours |",
        "| --- | --- | --- | --- |",
        *rows,
        "",
        *details,
    ])  # fmt: skip


def main(checkout: Path) -> None:
    """Write the page."""
    page = Path(__file__).with_suffix(".md")
    page.write_text(report(checkout))
    print(page)


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
