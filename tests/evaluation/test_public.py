"""Public data: each published form is read, and scored as the official scorer does it."""

from __future__ import annotations

import asyncio
import json
import re

import pytest

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation import DATASETS, aevaluate, public_data, score
from rlm_adapters.evaluation.public import browsecomp, locodiff, longbench, oolong, ruler
from tests.server import cell

SYNTHETIC = {
    "id": 1, "context_window_id": 2, "dataset": "trec", "task": "TASK_TYPE.MOST_FREQ", "context_len": 1024,
    "context_window_text": "Date: Jan 1 || User: 7 || Instance: what is a city", "question": "How many? Answer: number",
    "answer": "[12]", "answer_type": "ANSWER_TYPE.NUMERIC",
}  # fmt: skip
REAL = {
    "id": "a",
    "context_window_text": "[Matt] roll",
    "question": "Which spells, in \\boxed{}?",
    "answer": "Shield, Web",
}
CODE = {
    "_id": "6", "domain": "Code Repository Understanding", "sub_domain": "Code repo QA", "difficulty": "easy",
    "length": "short", "question": "What does it do?", "choice_A": "adds", "choice_B": "waits", "choice_C": "prints",
    "choice_D": "nothing", "answer": "B", "context": "def wait(): ...",
}  # fmt: skip
BROWSE = {
    "query_id": "3", "query": "Which town?", "answer": "São Tomé",
    "gold_docs": [{"docid": "9", "text": "It is São Tomé.", "url": "u"}],
    "evidence_docs": [{"docid": "9", "text": "It is São Tomé.", "url": "u"}, {"docid": "2", "text": "two", "url": "u"}],
    "negative_docs": [{"docid": "5", "text": "five", "url": "u"}],
}  # fmt: skip
NEEDLE = {
    "index": 0, "length": 50, "input": "Some numbers are hidden.\nThe number for a is 17.\nWhat are all the numbers for a?",
    "outputs": ["17", "23"], "answer_prefix": " The numbers for a are",
}  # fmt: skip


def write(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("kind", "gold", "answer", "value"),
    [
        ("ANSWER_TYPE.NUMERIC", 12, "12", 1),
        ("ANSWER_TYPE.NUMERIC", 12, "I counted them. Answer: **12**", 1),
        ("ANSWER_TYPE.NUMERIC", 12, "Answer: 14", 0.75**2),
        ("ANSWER_TYPE.NUMERIC", 12, "Answer: about a dozen", 0),
        ("ANSWER_TYPE.NUMERIC", 12, "Answer: 9" + "9" * 19, 0.75**1000),
        ("ANSWER_TYPE.LABEL", "spam", "Label: [spam]", 1),
        ("ANSWER_TYPE.LABEL", "spam", "there is no doubt that it must be spam", 1),
        ("ANSWER_TYPE.LABEL", "spam", "Label: Spam", 0),
        ("ANSWER_TYPE.COMPARISON", "more common than", "Answer: spam is more common than ham, by far", 1),
        ("ANSWER_TYPE.COMPARISON", "more common than", "Answer: spam is less common than ham, by far", 0),
        ("ANSWER_TYPE.LABEL", "spam", "", 0),
    ],
)
def test_oolong_synthetic(kind, gold, answer, value):
    assert oolong.synthetic(answer, gold=gold, kind=kind) == pytest.approx(value)


@pytest.mark.parametrize("said", ["2023-03-07", "March 07, 2023", "Mar 7, 2023", "03/07/2023"])
def test_an_oolong_date_is_a_date_however_it_is_written(said, tmp_path):
    row = SYNTHETIC | {"answer": "[datetime.date(2023, 3, 7)]", "answer_type": "ANSWER_TYPE.DATE"}
    (task,) = public_data(f"oolong:{write(tmp_path / 'rows.jsonl', row)}", 1)
    assert score(task.question, f"Date: {said}").correct
    assert not score(task.question, "Date: 2023-03-08").correct


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        ("84", "\\boxed{84}", 1),
        ("84", "\\boxed{\\text{82}}", 0.75**2),
        ("84", "86", 0.75**2),
        ("Fireball", "so it is \\boxed{fireball }", 1),
        ("Shield, Web", "\\boxed{Web, Sleep, Light}", 0.5),
        ("Shield, Web", "\\boxed{Web}", 0),
    ],
)
def test_oolong_real(gold, answer, value):
    assert oolong.real(answer, gold=gold) == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "value"),
    [("The correct answer is (B).", 1), ("**The correct answer is B**", 1), ("(B)", 1), ("B", 1),
     ("The correct answer is (A)", 0), ("Either B or C", 0), ("", 0)],
)  # fmt: skip
def test_longbench(answer, value):
    assert longbench.choice(answer, gold="B") == value


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("Sao Tome", 1),
        ("Exact Answer: São Tomé.", 1),
        ("It was the town of SÃO TOMÉ", 1),
        ("Tomé", 0),
        ("Sao Tomes", 0),
    ],
)
def test_browsecomp(answer, value):
    assert browsecomp.same(answer, gold="São Tomé") == value


def test_ruler():
    assert ruler.match("17 and 99", wanted=["17", "23"], any_of_them=False) == 0.5
    assert ruler.match("17\x00, 23", wanted=["17", "23"], any_of_them=False) == 1
    assert ruler.match("In PARIS", wanted=["Paris", "Lutetia"], any_of_them=True) == 1


@pytest.mark.parametrize(
    ("answer", "value"),
    [("```python\nx = 1\n```", 1), ("Here it is:\n```\nx = 1\n```\nDone.", 1), ("x = 1", 1), ("```py\nx = 1", 1),
     ("```\nx = 2\n```", 0)],
)  # fmt: skip
def test_locodiff(answer, value):
    assert locodiff.same(answer, gold="x = 1\n") == value


def files(folder):
    """A tiny file of each form; the right answer to each."""
    (folder / "loco").mkdir()
    (folder / "loco" / "a_prompt.txt").write_text("# Instructions\nx = 0, then x = 1")
    (folder / "loco" / "a_expectedoutput.txt").write_text("x = 1\n")
    (folder / "data.json").write_text(json.dumps([CODE | {"domain": "Single-Document QA"}, CODE]))
    return {
        f"oolong:{write(folder / 'oolong' / 'test.jsonl', SYNTHETIC)}": 12,
        f"longbench-codeqa:{folder / 'data.json'}": "The correct answer is (B)",
        f"browsecomp-plus:{write(folder / 'browse.jsonl', BROWSE)}": "sao tome",
        f"ruler:{write(folder / 'ruler' / 'niah_single_1' / 'validation.jsonl', NEEDLE)}": ["17", "23"],
        f"locodiff:{folder / 'loco'}": "```\nx = 1\n```",
    }


def test_every_published_form_is_read_and_its_right_answer_is_right(tmp_path):
    known = files(tmp_path)
    assert {spec.partition(":")[0] for spec in known} == set(DATASETS)
    for spec, answer in known.items():
        (task,) = public_data(spec, 5)
        assert score(task.question, answer).correct, spec
        assert not score(task.question, "something else entirely, and wrong").correct
        assert re.fullmatch(r"[a-z-]+/\d+-[0-9a-f]{12}", task.id)


def test_documents_come_once_and_in_an_order_that_does_not_tell_which_are_gold(tmp_path):
    (task,) = public_data(f"browsecomp-plus:{write(tmp_path / 'rows.jsonl', BROWSE)}", 1)
    assert task.question.context == ["two", "five", "It is São Tomé."]


def test_the_question_of_ruler_is_its_last_line(tmp_path):
    (task,) = public_data(f"ruler:{write(tmp_path / 'qa_1' / 'validation.jsonl', NEEDLE)}", 1)
    assert task.question.text == "What are all the numbers for a? The numbers for a are"
    assert task.question.context.endswith("for a is 17.")
    assert score(task.question, "23").correct  # in a folder qa_1 one of the references is enough


def test_parquet_is_read(tmp_path):
    import polars as pl

    pl.DataFrame([SYNTHETIC]).write_parquet(tmp_path / "test-00000.parquet")
    (task,) = public_data(f"oolong:{tmp_path}", 1)
    assert score(task.question, "12").correct


def test_a_larger_sample_holds_the_smaller_one_and_a_row_that_changed_has_another_id(tmp_path):
    rows = [SYNTHETIC | {"question": f"How many of {number}?"} for number in range(30)]
    path = write(tmp_path / "rows.jsonl", *rows)
    few, many = ({one.id for one in public_data(f"oolong:{path}", samples)} for samples in (3, 9))
    assert (len(few), len(many), few < many) == (3, 9, True)
    assert {one.id for one in public_data(f"oolong:{path}", 3, seed=1)} != few
    write(path, *(row | {"answer": "[13]"} for row in rows))
    assert {one.id for one in public_data(f"oolong:{path}", 3)}.isdisjoint(few)


@pytest.mark.parametrize(
    ("spec", "content", "message"),
    [
        ("oolong:{}/gone.jsonl", None, "does not exist; nothing is downloaded. Get rows of https://huggingface.co"),
        ("ruler:{}/gone", None, "Get what prepare.py of https://github.com/NVIDIA/RULER writes"),
        ("oolong", None, "give NAME:PATH, with one of oolong, longbench-codeqa"),
        ("imagenet:{}/rows.jsonl", "", "give NAME:PATH"),
        ("oolong:{}/rows.jsonl", "", "has no question of this data set"),
        ("oolong:{}/rows.jsonl", "{}\n", "line 1 has no answer: give the file in its published form"),
        ("oolong:{}/rows.jsonl", json.dumps(SYNTHETIC | {"answer": "twelve"}), "is not a list of one value"),
        ("oolong:{}/rows.jsonl", json.dumps(SYNTHETIC | {"question": 3}), "question='3' is not a text"),
        ("oolong:{}/rows.jsonl", "no json", "line 1 is not JSON"),
        ("browsecomp-plus:{}/rows.jsonl", '{"query": "q", "answer": "a"}', "has none of gold_docs"),
        ("browsecomp-plus:{}/rows.jsonl", '{"gold_docs": [3]}', "'3' is not a document"),
        ("ruler:{}/rows.jsonl", '{"input": "a\\nb", "outputs": "17"}', "outputs='17' is not a list"),
        ("longbench-codeqa:{}/rows.json", "{}", "is not a list of objects"),
        ("locodiff:{}", None, "has no question of this data set"),
        ("ruler:{}", None, "has no file that ends in .jsonl"),
    ],
)
def test_what_is_not_there_or_has_another_form_is_said(spec, content, message, tmp_path):
    if content is not None:
        (tmp_path / spec.partition("/")[2]).write_text(content)
    with pytest.raises(InputError, match=re.escape(message)):
        public_data(spec.format(tmp_path), 3)


def test_public_data_stands_beside_the_families_in_the_same_columns(model_server, chat, sandbox, tmp_path):
    model_server.script("root", lambda messages, _: cell("SUBMIT(12)") if "REPL" in messages[0]["content"] else "12")
    path = write(tmp_path / "rows.jsonl", *(SYNTHETIC | {"id": number} for number in range(2)))
    options = {
        "data": [f"oolong:{path}"],
        "samples": 1,
        "sizes": [10_000],
        "settings": ["direct", "rlm-1"],
        "output": tmp_path / "results.jsonl",
        "sandbox": sandbox,
        "traces": tmp_path / "traces",
    }

    async def run():
        first = await aevaluate(chat("root"), **options)
        return first, await aevaluate(chat("root"), **options | {"families": ["s_niah"], "samples": 2})

    first, both = asyncio.run(run())
    assert (first.families, first.complete, [one.correct for one in first.results]) == (["oolong"], True, [True, True])
    assert (both.families, both.complete, both.total) == (["s_niah", "oolong"], True, 8)
    assert both.asked_now == 6  # the row that had a result is not asked again
    by_family = {(one.setting, one.family): one.accuracy for one in both.figures(family=True)}
    assert by_family["rlm-1", "oolong"] == 1
    assert "oolong" in both.to_html()
    assert len(list((tmp_path / "traces").glob("*.jsonl"))) == 8
