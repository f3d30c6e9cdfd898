"""The page as text: what is in it, within which bounds, and that nothing in it can end its script."""

import json
import re

import pytest

from rlm_adapters.views.page.page import MAX_PAGE, MAX_PART, Entry, Page, Part, coloured, render
from tests.views.page_samples import ATTACKS, sample


def data_of(text):
    (data,) = re.findall(r'<script type="application/json" id="data">(.*?)</script>', text, re.DOTALL)
    return json.loads(data)


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_attack_is_data_and_nothing_else(attack):
    plain, attacked = render(sample(8)), render(sample(8, attack=attack))
    attacked.encode()
    assert attacked.count("<script") == plain.count("<script") == 2
    assert attacked.count("<") == plain.count("<")
    node = data_of(attacked)["nodes"][0]
    assert node["model"] == f"root{attack}"


def test_a_text_is_in_the_page_once_and_long_ones_by_their_head():
    parts = [Part(name="Prompt", text="x" * (MAX_PART + 7)), Part(name="Answer", text="same")]
    page = Page(
        question="q", answer=None, facts=[], entries=[Entry(kind="call", title="t", parts=parts) for _ in range(5)]
    )
    data = data_of(render(page))
    assert [len(text) for text in data["texts"]] == [MAX_PART, 4]
    assert data["nodes"][4]["parts"][0]["left_out"] == 7


def test_a_page_has_a_bound():
    texts = [str(number) * MAX_PART for number in range(100, 100 + MAX_PAGE // MAX_PART)]
    entries = [Entry(kind="call", title="t", parts=[Part(name="Prompt", text=text)]) for text in texts]
    assert len(render(Page(question="q", answer=None, facts=[], entries=entries))) < MAX_PAGE + 1_000_000


def test_a_parent_comes_first():
    page = Page(question="q", answer=None, facts=[], entries=[Entry(kind="call", title="t", parent=0)])
    with pytest.raises(ValueError, match="entry 0 has the parent 0"):
        render(page)


def test_numbers_that_json_lacks_are_left_out():
    entries = [Entry(kind="call", title="t", start=float("nan"), end=float("inf"), cost=float("nan"))]
    node = data_of(render(Page(question="q", answer=None, facts=[], entries=entries)))["nodes"][0]
    assert (node["start"], node["end"], node["cost"]) == (0, None, None)


def test_code_keeps_every_character_and_has_colours():
    code = "\n\ndef f(x):\n    # why\n    return 'a' if x in (1, 2) else f'{x}'\n\n"
    runs = coloured(code)
    assert "".join(text for _, text in runs) == code
    assert {"k", "c", "s", "m", "f"} <= {name for name, _ in runs}
