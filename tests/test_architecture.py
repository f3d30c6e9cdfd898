"""docs/architecture.md is true: its picture is the graph's own, and imports go down only."""

import ast
from pathlib import Path

from langchain_core.language_models.fake_chat_models import FakeListChatModel

from rlm_adapters import create_rlm_graph

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rlm_adapters"

FLOORS = [
    {"errors", "effects", "events"},
    {"sandbox", "prices", "budget", "content", "limiter", "replies", "answers", "inputs"},
    {"models"},
    {"prompts"},
    {"graph"},
    {"chat", "chat_model", "dspy_adapter", "dspy_bridge", "dspy_module", "interpreter"},
    {"console", "options", "providers"},
    {"cli"},
]
"""From the ground up: a module imports from its own floor and from those below."""


def imports_of(path: Path) -> set[str]:
    tree = ast.parse(path.read_text())
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("rlm_adapters."):
            found.add(node.module.split(".")[1])
        elif isinstance(node, ast.Import):
            found |= {name.name.split(".")[1] for name in node.names if name.name.startswith("rlm_adapters.")}
    return found


def test_imports_go_down_only():
    floor_of = {module: number for number, floor in enumerate(FLOORS) for module in floor}
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        module = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
        if module in ("__init__", "__main__"):
            continue
        assert module in floor_of, f"{path.name} has no floor: add it to FLOORS"
        wrong += [f"{path.name} imports {other}" for other in imports_of(path) if floor_of[other] > floor_of[module]]
    assert not wrong


def test_the_sandbox_imports_nothing_but_itself_restrictedpython_and_errors():
    import sys

    allowed = set(sys.stdlib_module_names) | {"RestrictedPython", "pypdf", "pydantic_monty"}
    for path in sorted((PACKAGE / "sandbox").rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            names = []
            if isinstance(node, ast.Import):
                names = [name.name for name in node.names]
            elif isinstance(node, ast.ImportFrom) and node.level == 0:
                names = [node.module or ""]
            for name in names:
                if name.startswith("rlm_adapters"):
                    assert name.startswith(("rlm_adapters.sandbox", "rlm_adapters.errors")), f"{path}: {name}"
                else:
                    assert name.split(".")[0] in allowed, f"{path}: {name}"


def test_importing_the_package_loads_neither_langgraph_nor_dspy():
    import subprocess
    import sys

    code = (
        "import sys, rlm_adapters, rlm_adapters.sandbox\n"
        "heavy = {'langgraph', 'dspy', 'langchain_core', 'pydantic', 'openai'} & set(sys.modules)\n"
        "sys.exit(repr(heavy) if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_the_picture_in_the_docs_is_the_graph():
    with_model = create_rlm_graph(FakeListChatModel(responses=["x"]))
    drawn = with_model.get_graph().draw_mermaid().strip()
    text = (ROOT / "docs" / "architecture.md").read_text()
    shown = text.split("<!-- graph:begin -->")[1].split("<!-- graph:end -->")[0].strip()
    assert shown == f"```mermaid\n{drawn}\n```"
