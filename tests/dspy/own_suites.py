"""DSPy's own tests, run on its classes and on ours: ``python -m tests.dspy.own_suites CHECKOUT``.

CHECKOUT is a checkout of DSPy's public repository, at the installed version or as near as can be had. Nothing of it is
kept here. Prints a table of counts, and the tests that end differently.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections import Counter
from pathlib import Path

HERE = Path(__file__).parents[2]
OURS_RLM = "rlm_adapters.dspy_module:RLM"
OURS_INTERPRETER = "rlm_adapters.interpreter:RestrictedPythonInterpreter"
DSPY_LOCAL = "dspy.primitives.local_interpreter:LocalInterpreter"

SUITES = {
    "RLM": "tests/predict/test_rlm.py",
    "code interpreter": "tests/primitives/test_code_interpreter.py",
    "sandbox serialisation": "tests/primitives/test_sandbox_serializable.py",
    "modules": "tests/primitives/test_module.py tests/primitives/test_base_module.py",
    "local interpreter": "tests/primitives/test_local_interpreter.py",
    "Python interpreter": "tests/primitives/test_python_interpreter.py",
    "program of thought, CodeAct": "tests/predict/test_program_of_thought.py tests/predict/test_code_act.py",
}
"""Files by what they are about; those that a checkout lacks are left out."""

Outcomes = dict[str, str]


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


def _outcome(case: ET.Element) -> str:
    if case.find("skipped") is not None:
        return "skipped"
    return "failed" if case.find("failure") is not None or case.find("error") is not None else "passed"


def counts(outcomes: Outcomes) -> str:
    """``passed/failed/skipped``."""
    found = Counter(outcomes.values())
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
        for name in sorted(ours):
            best = "passed" if "passed" in (alone.get(name), local.get(name)) else local.get(name)
            if ours[name] != best:
                print(f"    {'+' if ours[name] == 'passed' else '-'} {name}: DSPy {best}, ours {ours[name]}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
