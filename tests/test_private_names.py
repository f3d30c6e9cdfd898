"""The private names of LangGraph, langchain-core and DSPy that this package uses are there, and used in one module each."""

import inspect
import re
from importlib import import_module
from pathlib import Path

import dspy
import pytest

from rlm_adapters.dspy.module import RLM
from rlm_adapters.graph.langgraph_private import PRIVATE as LANGGRAPH
from rlm_adapters.models.langchain_private import PRIVATE as LANGCHAIN
from rlm_adapters.prompts.dspy_private import PRIVATE as DSPY

PACKAGE = Path(__file__).parent.parent / "rlm_adapters"
HOMES = {"langgraph_private.py", "langchain_private.py", "dspy_private.py"}


@pytest.mark.parametrize("one", [*LANGGRAPH, *LANGCHAIN, *DSPY], ids=lambda one: one.name)
def test_a_private_name_is_there_and_means_what_it_did(one):
    module, _, owner = one.where.partition(":")
    try:
        home = import_module(module)
        home = getattr(home, owner) if owner else home
        found = getattr(home, one.name)
    except (ImportError, AttributeError):
        pytest.fail(f"{one.where} has no {one.name} any more: {one.breaks}")
    if one.value is not None:
        assert found == one.value, f"{one.where}.{one.name} has changed: {one.breaks}"


def test_no_other_module_imports_a_private_name_of_theirs():
    private = re.compile(
        r"from (?:langgraph|langchain_core|dspy)\S*\._\S* import|from (?:langgraph|langchain_core|dspy)\S* import .*\b_\w+"
        r"|from dspy.primitives.facade import|dspy\.\w+\._[a-z]"
    )
    found = [
        f"{path.relative_to(PACKAGE)}: {line.strip()}"
        for path in PACKAGE.rglob("*.py")
        if path.name not in HOMES
        for line in path.read_text().splitlines()
        if private.search(line) or "__pregel" in line
    ]
    assert found == []


def test_what_rlm_uses_of_its_base_class_is_listed():
    used = set(re.findall(r"(?:self|super\(\))\.(_[a-z]\w+)", Path(inspect.getfile(RLM)).read_text()))
    inherited = {name for name in used if name in vars(dspy.RLM)}
    assert inherited, "it inherits nothing?"
    assert inherited <= {one.name for one in DSPY}
