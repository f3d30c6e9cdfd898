"""docs/architecture.md is true: its picture is the graph's own, and imports go down only."""

import ast
import json
import subprocess
import sys
from pathlib import Path

from langchain_core.language_models.fake_chat_models import FakeListChatModel

from rlm_adapters import create_rlm_graph

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "rlm_adapters"

FLOORS = [
    {"errors", "crew"},
    {"arguments", "effects", "events", "forking", "replies", "sandbox/hardening"},
    {"models", "values", "views", "sandbox/protocol"},
    {"prompts", "sandbox/host", "sandbox/runtime", "traces"},
    {"sandbox/language", "sandbox/monty"},
    {"sandbox/repl"},
    {"sandbox/runahead"},
    {"sandbox/worker"},
    {"sandbox"},
    {"cluster"},
    {"graph"},
    {"langchain", "dspy"},
    {"datasets"},
    {"rlm_adapters"},
    {"evaluation"},
    {"cli"},
    {"__main__"},
]
"""The rooms from the ground up: a room imports only from the floors below its own."""

WORKER_SIDE = {"sandbox/runtime", "sandbox/language", "sandbox/repl", "sandbox/runahead", "sandbox/worker"}
"""The rooms whose code runs in a confined worker, beside a stranger's cells."""

LOADED_BY_A_WORKER = {
    "rlm_adapters",
    "rlm_adapters.errors",
    "rlm_adapters.sandbox",
}
"""What a worker loads of the package outside of its own side, `sandbox/protocol` and `sandbox/hardening`."""


def modules() -> list[tuple[str, Path]]:
    """Each module of the package as (dotted name, file)."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        found.append((name.removesuffix(".__init__"), path))
    return found


def room_of(module: str) -> str:
    """`rlm_adapters.sandbox.host.cell` lies in `sandbox/host`; a module at the top is a room of its own."""
    parts = module.split(".")[1:]
    if parts[:1] == ["sandbox"] and len(parts) > 1 and (PACKAGE / "sandbox" / parts[1]).is_dir():
        return f"sandbox/{parts[1]}"
    return parts[0] if parts else "rlm_adapters"


def imports_of(path: Path) -> set[str]:
    """The modules of the package that a file imports, wherever in the file."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0 or "guest" in path.parts, f"{path}: imports are absolute"
            found.add(node.module or "")
        elif isinstance(node, ast.Import):
            found |= {name.name for name in node.names}
    return {name for name in found if name.split(".")[0] == "rlm_adapters"}


def arrows() -> dict[str, set[str]]:
    """The rooms that each room imports from."""
    found: dict[str, set[str]] = {}
    for module, path in modules():
        room = room_of(module)
        found.setdefault(room, set()).update({room_of(name) for name in imports_of(path)} - {room})
    return found


def test_imports_go_down_only_between_rooms():
    floor_of = {room: number for number, floor in enumerate(FLOORS) for room in floor}
    found = arrows()
    # The package and `sandbox` load each public name when it is first used: what they import is not loaded with them.
    lazy = {"rlm_adapters", "sandbox"}
    assert set(found) - set(floor_of) == set(), "a new room needs a floor: add it to FLOORS"
    assert set(floor_of) - set(found) == set(), "a room that is gone"
    wrong = [
        f"{room} imports {other}"
        for room, others in found.items()
        for other in others
        if floor_of[other] >= floor_of[room] and not (other in lazy and room.startswith("sandbox/"))
    ]
    assert wrong == []


def test_no_room_of_the_worker_s_side_imports_the_host_and_the_host_imports_nothing_that_runs_cells():
    found = arrows()
    for room in WORKER_SIDE:
        assert "sandbox/host" not in found[room], room
        assert not {other for other in found[room] if not other.startswith("sandbox/")}, room
    assert found["sandbox/host"] <= {"errors", "forking", "sandbox/protocol", "sandbox/hardening"}


def test_the_modules_that_a_worker_loads_are_of_its_side_or_shared():
    code = (
        "import json, sys\n"
        "from rlm_adapters.sandbox.repl.preload import preload\n"
        "from rlm_adapters.sandbox.worker import worker, zygote\n"
        "preload()\n"
        "print(json.dumps(sorted(name for name in sys.modules if name.split('.')[0] == 'rlm_adapters')))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    assert "rlm_adapters.sandbox.worker.worker" in loaded
    of_its_side = {name for name in loaded if room_of(name) in WORKER_SIDE | {"sandbox/protocol", "sandbox/hardening"}}
    assert loaded - of_its_side == LOADED_BY_A_WORKER


def test_the_sandbox_imports_nothing_but_itself_restrictedpython_and_errors():
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
                    assert name.startswith(("rlm_adapters.sandbox", "rlm_adapters.errors", "rlm_adapters.forking")), (
                        f"{path}: {name}"
                    )
                else:
                    assert name.split(".")[0] in allowed, f"{path}: {name}"


def test_importing_the_package_loads_neither_langgraph_nor_dspy():
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
