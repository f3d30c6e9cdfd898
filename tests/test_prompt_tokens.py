"""What the root LM is told costs: six tasks with recorded replies, counted in characters / 4.

The replies are those of a strong LM, so only what this package says changes the figures. Prompts and replies count, over
all root calls. A figure that grows is a prompt that grew: make it shorter, do not raise the figure.
"""

from __future__ import annotations

import re

import pytest

from rlm_adapters import create_rlm_graph
from rlm_adapters.evaluation import make_task, score
from rlm_adapters.evaluation.tasks.labels import LABELS, instances
from tests.server import cell, text_of

NEEDLE = (
    cell(
        "import re\nhits = re.findall(r'[^.\\n]*magic number[^.]*\\.', context)\nprint(len(hits), hits[:20])",
        "I look for the sentence.",
    ),
    cell("SUBMIT(4927057)", "One sentence, of the city that was asked for."),
)
NEAR_MISSES = (
    cell(
        "import re\nfor word in ('Porto', 'magic number', 'special'):\n"
        "    hits = [m.start() for m in re.finditer(word, context)]\n"
        "    print(word, len(hits), [context[max(0, i - 60):i + 80] for i in hits[:4]])",
        "I look for the city and for the words of the question.",
    ),
    cell(
        "SUBMIT('NOT FOUND')",
        "The context has a lucky number for Porto and a magic number for another city, but no magic number for Porto.",
    ),
)
HOPS = (
    cell(
        "import re\ntext = '\\n'.join(context)\n"
        "def about(what):\n    return [s.strip() for s in re.findall(r'[^.\\n]*' + re.escape(what) + r'[^.\\n]*\\.', text)]\n"
        "print(about('scarlet ledger'))",
        "I follow the facts, the owner first.",
    ),
    cell(
        "owner = re.search(r'belongs to ([^.]+)\\.', about('scarlet ledger')[0])[1]\n"
        "teacher = re.search(r'taught by ([^.]+)\\.', ' '.join(about(owner + ' was taught')))[1]\n"
        "guild = re.search(r'worked for ([^.]+)\\.', ' '.join(about(teacher + ' worked')))[1]\n"
        "seat = about(guild + ' has its seat')\nprint(owner, teacher, guild, seat)\n"
        "towns = {re.search(r'seat in ([^.]+)\\.', s)[1] for s in seat}\nif len(towns) == 1: SUBMIT(towns.pop())",
    ),
)
CLASSIFICATION = (
    cell(
        "lines = [l for l in context.splitlines() if 'Instance: ' in l]\n"
        "texts = [l.split('Instance: ')[1] for l in lines]\nprint(len(texts), len(set(texts)), texts[:8])",
        "First the form of the lines.",
    ),
    cell(
        "labels = ['abbreviation', 'description', 'entity', 'human being', 'location', 'numeric value']\n"
        "size = -(-len(texts) // 6)\n"
        "parts = [list(enumerate(texts))[i:i + size] for i in range(0, len(texts), size)]\n"
        "task = 'Which kind of thing does each question ask for: ' + ', '.join(labels) + '? "
        "Answer one line per question, `number: kind`.\\n'\n"
        "replies = llm_query_batched([task + '\\n'.join(f'{i}: {t}' for i, t in part) for part in parts])\n"
        "kinds = {}\nfor reply in replies:\n    for line in reply.splitlines():\n"
        "        number, _, kind = line.partition(':')\n        kinds[int(number)] = kind.strip()\n"
        "print(len(parts), len(kinds), {k: list(kinds.values()).count(k) for k in labels})\n"
        "print([texts[i] for i, k in kinds.items() if k == 'location'][:5])",
        "Six prompts, a sixth of the lines each.",
    ),
    cell("SUBMIT(sum(k == 'location' for k in kinds.values()))", "All lines have a kind, and the samples are right."),
)
LOG = (
    cell("lines = context.splitlines()\nprint(len(lines), lines[:3])", "The form of a line first."),
    cell(
        "import re\nrows = [re.search(r'service=(\\w+) status=(\\d+) took_ms=(\\d+)', l) for l in lines]\n"
        "assert all(rows)\n"
        "SUBMIT(sum(int(r[3]) for r in rows if r[1] == 'mail' and int(r[2]) >= 500))",
    ),
)
PAGE = (
    cell("print(len(context)); print(context[21][:3000])", "Page 22 is item 21."),
    cell("SUBMIT(653743)", "The page names one inventory number."),
)


def oracle(messages, _):
    """A sub-LM that knows the kinds."""
    kinds = {text: label for label in LABELS for text in instances(label)}
    asked = re.findall(r"^(\d+): (.*)$", text_of(messages[-1]), re.MULTILINE)
    return "\n".join(f"{number}: {kinds[text.strip()]}" for number, text in asked)


CASES = {
    "a needle in 200 kB": ("s_niah", 200_000, NEEDLE, 1_650),
    "two near misses": ("absent_answer", 200_000, NEAR_MISSES, 1_930),
    "four hops over 70 documents": ("multi_hop", 210_000, HOPS, 1_840),
    "300 lines by their meaning": ("oolong_counts", 27_500, CLASSIFICATION, 3_480),
    "an aggregate of a log": ("log_aggregation", 100_000, LOG, 1_750),
    "a page of a PDF": ("pdf_page", 100_000, PAGE, 2_170),
}
"""Family, bytes, replies, and the most tokens."""
ALL_TOGETHER = 12_800
"""The best of other packages took 50,000 for six such tasks, and this one 19,500 before."""


@pytest.fixture(scope="module")
def counted():
    """Tokens by case, of those that were run."""
    return {}


@pytest.mark.parametrize("name", CASES)
def test_a_task_takes_no_more_root_tokens_than_it_did(name, model_server, chat, sandbox, counted):
    family, size, replies, most = CASES[name]
    task = make_task(family, size, seed=5)
    model_server.script("root", replies)
    model_server.script("sub", oracle)
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    result = graph.invoke({"query": task.question.text, "context": task.question.context})
    assert score(task.question, result["answer"]).correct, result
    asked = model_server.requests_of("root")
    assert len(asked) == len(replies)
    counted[name] = round((sum(len(one.prompt) for one in asked) + sum(map(len, replies))) / 4)
    assert counted[name] <= most


def test_six_tasks_together_take_no_more_than_a_bound(counted):
    if len(counted) < len(CASES):
        pytest.skip("not all of the cases were run")
    assert sum(counted.values()) <= ALL_TOGETHER, counted
