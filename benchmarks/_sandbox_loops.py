"""Guard overhead: CPU time of loops under the language policy, against the same code as plain Python."""

from __future__ import annotations

import time
from typing import Any

from benchmarks.measure import ratio, seconds, table
from rlm_adapters.sandbox import Sandbox, SandboxLimits

LOOPS = {
    "xs.append(i)": "xs = []\nfor i in range(1_000_000): xs.append(i)",
    "s.upper().strip()": "s = ' some text '\nfor i in range(1_000_000): s.upper().strip()",
    "a, b = pair": "pair = (1, 2)\nfor i in range(1_000_000): a, b = pair",
    "d[k] = v": "d = {}\nfor i in range(1_000_000): d[i % 1000] = i",
    "xs[i]": "xs = list(range(1000))\nfor i in range(1_000_000): xs[i % 1000]",
    "x += i": "x = 0\nfor i in range(1_000_000): x += i",
    "d[k] += 1": "d = dict.fromkeys(range(1000), 0)\nfor i in range(1_000_000): d[i % 1000] += 1",
    "f(i)": "def f(n):\n    return n\nfor i in range(1_000_000): f(i)",
    "obj.n = i (200k)": "class C:\n    pass\nobj = C()\nfor i in range(200_000): obj.n = i",
    "obj._n += 1 (200k)": "class C:\n    _n = 0\nobj = C()\nfor i in range(200_000): obj._n += 1",
    "'{}'.format(i) (200k)": "for i in range(200_000): '{}'.format(i)",
    "f'{i}'": "for i in range(1_000_000): f'{i}'",
    "try/except (200k)": (
        "for i in range(200_000):\n    try:\n        raise ValueError(i)\n    except ValueError as e:\n        pass"
    ),
    "getattr(obj, name) (200k)": "class C:\n    n = 1\nobj, k = C(), 'n'\nfor i in range(200_000): getattr(obj, k)",
    "print(i) (200k)": "for i in range(200_000): print(i)",
    "dict of 1M": "d = {i: str(i) for i in range(1_000_000)}",
    "sorted by lambda (200k)": "sorted(range(200_000), key=lambda i: -i)",
    "re.findall, 10 MB": "import re\nfound = re.findall(r'line \\d+', text)",
    "split, 10 MB": "lines = text.split('\\n')",
    "loop over 300k lines": "n = 0\nfor line in text.split('\\n'):\n    if 'line 7' in line:\n        n += 1",
}
_TEXT = "".join(f"this is line {i} of the text\n" for i in range(330_000))
_ROUNDS = 3


def measure() -> None:
    """Print the table."""
    rows = []
    limits = SandboxLimits(cpu_seconds=60, output_chars=3_000_000)
    with Sandbox(limits=limits) as sandbox, sandbox.open(variables={"text": _TEXT}) as session:
        for name, code in LOOPS.items():
            plain, guarded = [], []
            for _ in range(_ROUNDS):  # in turns, so that noise hits both
                plain.append(_plain(code))
                done = session.run(code)
                if done.error is not None:
                    raise RuntimeError(f"{name}: {done.error.traceback}")
                guarded.append(done.cpu_seconds)
            rows.append((name, seconds(min(plain)), seconds(min(guarded)), ratio(min(guarded), min(plain))))
    table(
        "guard overhead (CPU time, best of 3; 1M iterations unless said)", ["loop", "plain", "sandbox", "ratio"], rows
    )


def _plain(code: str) -> float:
    """CPU time of ``exec``; what it prints is collected as the sandbox does."""
    printed: list[str] = []
    namespace: dict[str, Any] = {"text": _TEXT, "print": lambda value: printed.append(f"{value}\n")}
    start = time.thread_time()
    exec(compile(code, "<cell>", "exec"), namespace)
    return time.thread_time() - start
