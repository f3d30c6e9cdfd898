"""Inputs that people have: tables, also as dspy.RLM's documentation wraps them, messages, Documents, files."""

import base64
import datetime as dt

import dspy
import pandas as pd
import polars as pl
import pytest
from dspy.primitives.sandbox_serializable import SandboxSerializable
from langchain_core.documents import Document
from langchain_core.messages import HumanMessage

from rlm_adapters import RLM
from tests.dspy.scripted import playing


def run(value, *cells):
    """The answer of the last cell, and the first prompt."""
    lm = playing(*cells)
    with dspy.context(lm=lm):
        return RLM("df, query -> answer: str")(df=value, query="q").answer, lm.prompts[0]


@pytest.mark.parametrize("kind", [pd.DataFrame, pl.DataFrame])
def test_a_table_is_a_list_of_rows_whose_column_types_the_root_lm_sees(kind):
    table = kind({"city": ["Rome", "Oslo"], "people": [2_800_000, 700_000]})
    answer, prompt = run(table, "SUBMIT(str(sum(row['people'] for row in df)))")
    assert answer == "3500000"
    assert "2 rows of a" in prompt
    assert "people: int64" in prompt.replace("Int64", "int64")
    assert "Type: list" in prompt


def test_the_dataframe_of_dspys_documentation():
    class DataFrame(SandboxSerializable):
        def __init__(self, data):
            self.data = data

        def sandbox_packages(self):
            return ["pandas", "pyarrow"]

        def sandbox_setup(self):
            return "import pandas as pd\nimport base64\nimport io"

        def to_sandbox(self):
            return base64.b64encode(self.data.to_json().encode())

        def sandbox_assignment(self, var_name, data_expr):
            return f"{var_name} = pd.read_json(io.BytesIO(base64.b64decode({data_expr})))"

        def rlm_preview(self, max_chars=500):
            return f"DataFrame: {self.data.shape}"

    answer, prompt = run(DataFrame(pd.DataFrame({"a": [1, 2]})), "SUBMIT(str(sum(row['a'] for row in df)))")
    assert answer == "3"
    assert "a: int64" in prompt
    assert "import pandas" not in prompt, "the sandbox has none, so none is promised"


def test_values_inside_of_containers():
    value = {"t": pd.DataFrame({"a": [1]}), "when": dt.date(2026, 1, 2), "l": [pd.Series([1.5, None])]}
    answer, _ = run(value, "SUBMIT(repr(df))")
    assert answer == "{'t': [{'a': 1}], 'when': '2026-01-02', 'l': [[1.5, None]]}"


def test_messages_documents_and_files(tmp_path):
    answer, prompt = run([HumanMessage("hi")], "SUBMIT(df[0]['role'] + df[0]['content'])")
    assert answer == "userhi"
    assert "a conversation of 1 messages" in prompt
    answer, _ = run(
        [Document("page", metadata={"n": 1})], "SUBMIT(df[0]['page_content'] + str(df[0]['metadata']['n']))"
    )
    assert answer == "page1"
    file = tmp_path / "a.txt"
    file.write_text("in the file")
    assert run(file, "SUBMIT(df)")[0] == "in the file"


def test_empty_inputs():
    for value in ("", [], {}, None):
        assert run(value, "SUBMIT(repr(df))")[0] == repr(value)
