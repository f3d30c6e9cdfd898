"""Tasks: the same from the same seed, of the size that was asked for, with answers that are in the context."""

import io
import json
import re

import pypdf
import pytest

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.scoring import score
from rlm_adapters.evaluation.tasks import FAMILIES, make_task, tasks_of
from rlm_adapters.evaluation.tasks.labels import LABELS, instances, label_of

SIZES = (10_000, 200_000)


def text_of(task):
    context = task.question.context
    return context if isinstance(context, str) else "\n".join(context)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_seed_gives_the_same_task_and_another_seed_another(family):
    first = make_task(family, 10_000, seed=3)
    assert make_task(family, 10_000, seed=3).question == first.question
    others = [make_task(family, 10_000, seed=3, number=1), make_task(family, 10_000, seed=4)]
    others.append(make_task(family, 10_000, seed=3, split="train"))
    for other in others:
        assert text_of(other) != text_of(first)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("family", FAMILIES)
def test_a_context_is_of_its_size_and_ascii(family, size):
    text = text_of(make_task(family, size))
    assert text.isascii()
    assert 0.8 * size < len(text) < 1.2 * size


@pytest.mark.parametrize("family", FAMILIES)
def test_the_right_answer_is_right_in_each_form_in_which_it_comes(family):
    for task in tasks_of([family], [10_000], 3):
        question = task.question
        text = question.answer if isinstance(question.answer, str) else json.dumps(question.answer)
        for given in (
            question.answer,
            text,
            f"Let me see.\nAnswer: {text}",
            {"answer": question.answer},
            f"```json\n{text}\n```",
        ):
            assert score(question, given).correct, given
        for wrong in (None, "", "I do not know", -17, [], {}, {"a": 1, "b": 2}, True, "[" * 5_000):
            found = score(question, wrong)
            assert (found.correct, found.value) == (False, 0.0), wrong


@pytest.mark.parametrize(
    "family", [name for name in FAMILIES if name not in ("multi_needle", "oolong_pairs", "long_output")]
)
def test_the_answer_of_another_task_is_wrong(family):
    answers = {json.dumps(task.question.answer) for task in tasks_of([family], [10_000], 6)}
    question = make_task(family, 10_000).question
    for answer in map(json.loads, answers):
        assert score(question, answer).correct == (answer == question.answer)


def test_a_list_that_is_right_in_part_is_worth_that_part():
    question = make_task("long_output", 10_000).question
    codes = question.answer
    assert len(codes) >= 20
    assert score(question, codes[:10]).value == pytest.approx(10 / len(codes))
    assert score(question, codes[1:]).value < 0.2
    assert not score(question, [*codes, "00"]).correct
    needles = make_task("multi_needle", 10_000).question
    assert score(needles, needles.answer[:2]).value == pytest.approx(2 / 3)
    pairs = make_task("oolong_pairs", 10_000).question
    (one, other), *rest = pairs.answer
    assert score(pairs, [[other, one], *rest]).correct
    assert 0 < score(pairs, rest).value < 1
    assert score(pairs, "\n".join(f"({a}, {b})" for a, b in pairs.answer)).correct


def test_two_numbers_where_one_is_wanted_are_wrong():
    question = make_task("s_niah", 10_000).question
    assert score(question, f"{question.answer:,}").correct
    assert score(question, f"**{question.answer}**.").correct
    assert not score(question, f"{question.answer} or 12").correct
    assert not score(question, [question.answer, 12]).correct
    assert not score(question, f"x{question.answer}").correct


def test_absent_means_that_no_near_miss_is_named():
    question = make_task("absent_answer", 10_000).question
    city = re.search(r"for (\w+) ", question.text)[1]
    text = question.context
    assert f"special magic numbers for {city}" not in text
    assert f"special lucky number for {city} is: {question.decoys[1]}." in text
    assert score(question, "Not found.").correct
    assert score(question, "NOT FOUND: another city has one").correct
    assert not score(question, f"NOT FOUND, but perhaps {question.decoys[0]}").correct
    assert not score(question, int(question.decoys[0])).correct


def test_the_needle_is_in_the_hay_as_often_as_asked():
    question = make_task("multi_needle", 50_000).question
    city = re.search(r"for (\w+) ", question.text)[1]
    found = re.findall(rf"magic numbers for {city} is: (\d+)\.", question.context)
    assert sorted(map(int, found)) == question.answer
    assert len(found) == 4


def test_labels_are_the_truth_of_oolong():
    assert len({text for label in LABELS for text in instances(label)}) == sum(
        len(instances(label)) for label in LABELS
    )
    for task in tasks_of(["oolong_counts"], [10_000], 3):
        label = re.search(r"category '(.+?)'", task.question.text)[1]
        drawn = re.findall(r"Instance: (.*)", task.question.context)
        assert sum(label_of(one) == label for one in drawn) == task.question.answer
        assert None not in map(label_of, drawn)
        assert f"contain {len(drawn)} " in task.question.context


def test_one_user_leads():
    for task in tasks_of(["oolong_users"], [10_000, 40_000], 5):
        label = re.search(r"category '(.+?)'", task.question.text)[1]
        rows = re.findall(r"User: (\d+) \|\| Instance: (.*)", task.question.context)
        found = sorted(
            {user: sum(u == user and label_of(text) == label for u, text in rows) for user, _ in rows}.items(),
            key=lambda pair: -pair[1],
        )
        assert int(found[0][0]) == task.question.answer
        assert found[0][1] > found[1][1]


def test_pairs_are_those_of_users_who_have_both():
    for task in tasks_of(["oolong_pairs"], [10_000, 40_000], 3):
        first, second = re.findall(r"of the category '(.+?)'", task.question.text)
        rows = re.findall(r"User: (\d+) \|\| Instance: (.*)", task.question.context)
        has = {user: {label_of(text) for u, text in rows if u == user} for user, _ in rows}
        both = sorted(int(user) for user, labels in has.items() if {first, second} <= labels)
        assert task.question.answer == [[a, b] for a in both for b in both if a < b]
        assert 3 <= len(both) < len(has)


def test_the_program_gives_what_the_answer_says(tmp_path, monkeypatch):
    question = make_task("code_question", 10_000).question
    for name, text in re.findall(r"# file: (\w+)\.py\n(.*?)(?=# file: |\Z)", question.context, re.DOTALL):
        (tmp_path / f"{name}.py").write_text(text)
    monkeypatch.syspath_prepend(tmp_path)
    function, given, module = re.search(r"`(\w+)\((\d+)\)` of (\w+)\.py", question.text).groups()
    assert getattr(__import__(module), function)(int(given)) == question.answer
    assert len(re.findall("# file: ", question.context)) > 5


def test_a_chain_goes_through_four_documents():
    question = make_task("multi_hop", 60_000).question
    thing = re.search(r"owner of the (.+?) worked", question.text)[1]
    found = {}
    for name, pattern in (
        ("owner", f"The {thing} belongs to (.+?)\\."),
        ("teacher", "{owner} was taught by (.+?)\\."),
        ("guild", "{teacher} worked for (.+?)\\."),
        ("town", "{guild} has its seat in (.+?)\\."),
    ):
        (hit,) = [
            (place, match[1])
            for place, page in enumerate(question.context)
            for match in re.finditer(pattern.format(**found), page)
        ]
        found[name] = hit[1]
    assert found["town"] == question.answer
    assert isinstance(question.context, list)


def test_the_pdf_is_a_pdf_and_its_pages_are_the_context():
    question = make_task("pdf_page", 10_000).question
    pages = pypdf.PdfReader(io.BytesIO(question.files["report.pdf"])).pages
    assert len(pages) == len(question.context)
    wanted = int(re.search(r"on page (\d+)", question.text)[1])
    for text in (pages[wanted - 1].extract_text(), question.context[wanted - 1]):
        assert f"inventory number is: {question.answer}." in " ".join(text.split())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("oolong", 10_000), "family='oolong' is unknown: give one of s_niah"),
        (("s_niah", 100), "size=100: give bytes from 4,000 to 100,000,000"),
        (("s_niah", True), "size=True"),
        (("s_niah", 10_000, 0, 0, "test"), "split='test' is unknown: give one of train, held_out"),
    ],
)
def test_what_cannot_be_made_is_said(arguments, message):
    with pytest.raises(InputError, match=re.escape(message)):
        make_task(*arguments)
