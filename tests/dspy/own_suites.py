"""DSPy's own tests, run on its classes and on ours: ``python -m tests.dspy.own_suites CHECKOUT``.

CHECKOUT is a checkout of DSPy's public repository, at the installed version or as near as can be had. Nothing of it is
kept here. Prints a table of counts, the tests that end differently, and each failure of ours with its first line.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
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


def main(checkout: Path) -> None:
    """Print the table."""
    print(f"{'passed/failed/skipped':<30}{'DSPy alone':>14}{'DSPy, its local':>18}{'ours':>14}")
    for title, files in SUITES.items():
        alone = run(checkout, files)
        if not alone:
            print(f"{title:<30}{'not in this checkout':>14}")
            continue
        local = run(checkout, files, interpreter=DSPY_LOCAL)
        ours = run(checkout, files, OURS_RLM, OURS_INTERPRETER)
        print(f"{title:<30}{counts(alone):>14}{counts(local):>18}{counts(ours):>14}")
        for name, outcome in sorted(ours.items()):
            others = {one[name].kind for one in (alone, local) if name in one}
            best = "passed" if "passed" in others else "failed"
            if outcome.kind == "failed" or (outcome.kind == "passed" and best == "failed"):
                print(f"    {name.rpartition('.')[2]}: DSPy {best}, ours {outcome.kind} {outcome.message}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
