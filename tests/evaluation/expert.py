"""A scripted expert as root LM, and the oracle as sub-LM: together they solve every family, so a miss is the engine's.

The expert knows the families' wording and writes the cells that a good model would. It has no answer: what a line is
about only the oracle says, when it is asked (`llm_query`), or the expert itself for what it has been shown.

    python -m tests.server tests.evaluation.expert:play
"""

import json
import re
from contextlib import suppress

from rlm_adapters.evaluation.tasks.labels import LABELS, label_of
from tests.server import ModelServer, cell, question_text, text_of, turn_of

SEEN = 9_000  # characters that the expert reads itself where it has no sub-calls

NEEDLE = """
import re
found = [int(number) for number in re.findall(r"special magic numbers for {city} is: (\\d+)\\.", context)]
print(found)
SUBMIT({answer})
"""

ROWS = """
import re
rows = re.findall(r"User: (\\d+) \\|\\| Instance: (.*)", context)
texts = sorted({text for _, text in rows})
"""

SUB_CALLS = """
batches = [texts[start:start + 50] for start in range(0, len(texts), 50)]
task = "Give the category of each question, one line each, as `number: category`. Categories: LABELS.\\n"
prompts = [task + "\\n".join(f"{number}: {text}" for number, text in enumerate(batch)) for batch in batches]
kind = {}
for batch, reply in zip(batches, llm_query_batched(prompts)):
    for line in reply.splitlines():
        number, _, label = line.partition(": ")
        kind[batch[int(number)]] = label
assert set(kind) == set(texts)
""".replace("LABELS", ", ".join(LABELS))

CHILDREN = """
import json
pieces = ["\\n".join(texts[start:start + 300]) for start in range(0, len(texts), 300)]
kind = {}
for reply in rlm_query_batched(["Give the category of each line of the context, as a JSON object."] * len(pieces), pieces):
    kind.update(json.loads(reply))
assert set(kind) == set(texts)
"""

CHILD = 'texts = context.split("\\n")\n' + SUB_CALLS + "import json\nSUBMIT(json.dumps(kind))"

HOPS = """
import re
text = "\\n".join(context)
owner = re.search(r"The {thing} belongs to (.+?)\\.", text)[1]
teacher = re.search(owner + r" was taught by (.+?)\\.", text)[1]
guild = re.search(teacher + r" worked for (.+?)\\.", text)[1]
SUBMIT(re.search(guild + r" has its seat in (.+?)\\.", text)[1])
"""

PROGRAM = """
import re
files = dict(re.findall(r"# file: (\\w+)\\.py\\n(.*?)(?=# file: |\\Z)", context, re.DOTALL))
module, function, value = "{module}", "{function}", {given}
while True:
    body = re.search(rf"def {{function}}\\(value\\):\\n(.*?)(?=\\ndef |\\Z)", files[module], re.DOTALL)[1]
    sign, number = re.search(r"value ([-+*]) (\\d+)", body).groups()
    value = value + int(number) if sign == "+" else value * int(number) if sign == "*" else value - int(number)
    after = re.search(r"from (\\w+) import (\\w+)", body)
    if after is None:
        break
    module, function = after.groups()
SUBMIT(value)
"""

LOG = """
import re
taken = re.findall(r"service={service} status=5\\d\\d took_ms=(\\d+)", context)
SUBMIT(sum(map(int, taken)))
"""

PARCELS = """
import re
SUBMIT(re.findall(r"depot {depot} \\| .* code (\\w+)", context))
"""

PAGE = """
import re
import PyPDF2
with open("report.pdf", "rb") as file:
    text = PyPDF2.PdfReader(file).pages[{page} - 1].extract_text()
SUBMIT(int(re.search(r"inventory number is: (\\d+)", " ".join(text.split()))[1]))
"""

PAGE_READ = """
import re
SUBMIT(int(re.search(r"inventory number is: (\\d+)", " ".join(context[{page} - 1].split()))[1]))
"""


def play(server: ModelServer, root: str = "expert", sub: str = "oracle", **options) -> None:
    """Let a server play both."""
    server.script(root, expert, **options)
    server.script(sub, lambda messages, _: oracle(text_of(messages[-1])), **options)


def oracle(prompt: str) -> str:
    """What a model knows of the lines that it is shown."""
    return "\n".join(
        f"{number}: {label_of(text)}" for number, text in re.findall(r"^(\d+): (.*)$", prompt, re.MULTILINE)
    )


def expert(messages, request):
    """The root LM's reply."""
    system, told = text_of(messages[0]), question_text(messages[1:])
    if "```repl" not in system:
        return read(told)
    if "Give the category of each line" in told:
        return cell(CHILD)
    if "category '" not in told:
        return cell(code(told, PAGE))
    if "rlm_query" in system:
        return cell(ROWS + CHILDREN + aggregate(told))
    if "llm_query" in system:
        return cell(ROWS + SUB_CALLS + aggregate(told))
    if turn_of(messages) == 0:
        return cell(ROWS + f"print('\\n'.join(texts)[:{SEEN}])")
    known = {line: label_of(line) for line in told.splitlines() if label_of(line)}
    return cell(ROWS + f"known = {known!r}\nkind = {{text: known.get(text) for text in texts}}" + aggregate(told))


def code(question: str, page: str) -> str:
    """The cell that finds an exact answer."""
    if found := re.search(r"What is the special magic number for (\w+) ", question):
        return NEEDLE.format(city=found[1], answer="found[0] if len(found) == 1 else 'NOT FOUND'")
    if found := re.search(r"What are all the special magic numbers for (\w+) ", question):
        return NEEDLE.format(city=found[1], answer="found")
    if found := re.search(r"teacher of the owner of the (.+?) worked for", question):
        return HOPS.format(thing=found[1])
    if found := re.search(r"What does `(\w+)\((\d+)\)` of (\w+)\.py return", question):
        return PROGRAM.format(function=found[1], given=found[2], module=found[3])
    if found := re.search(r"sum of took_ms over all lines of the service (\w+) ", question):
        return LOG.format(service=found[1])
    if found := re.search(r"codes of all parcels of the depot (\w+),", question):
        return PARCELS.format(depot=found[1])
    if found := re.search(r"stands on page (\d+) ", question):
        return page.format(page=found[1])
    raise AssertionError(f"the expert knows no such question: {question[-300:]}")


def aggregate(question: str) -> str:
    """The end of a cell that knows the `kind` of each text."""
    labels = re.findall(r"category '(.+?)'", question)
    if "How many of the questions" in question:
        return f"\nSUBMIT(sum(kind[text] == {labels[0]!r} for _, text in rows))"
    if "Which user asked the most" in question:
        return (
            "\nfrom collections import Counter"
            f"\nSUBMIT(int(Counter(user for user, text in rows if kind[text] == {labels[0]!r}).most_common(1)[0][0]))"
        )
    return (
        f"\nfirst = {{int(user) for user, text in rows if kind[text] == {labels[0]!r}}}"
        f"\nboth = sorted(first & {{int(user) for user, text in rows if kind[text] == {labels[1]!r}}})"
        "\nSUBMIT([[one, other] for place, one in enumerate(both) for other in both[place + 1:]])"
    )


def read(prompt: str) -> str:
    """The reply of an expert who has the whole input before it, or what was left of it."""
    context, question = re.fullmatch(r"<context>\n(.*)\n</context>\n\n(.*)", prompt, re.DOTALL).groups()
    names: dict = {"context": context}
    with suppress(ValueError):  # text, or a list of documents that was cut
        names["context"] = json.loads(context)
    submitted = []
    names |= {
        "print": str,
        "SUBMIT": submitted.append,
        "llm_query_batched": lambda prompts: [oracle(one) for one in prompts],
    }
    semantic = "category '" in question
    written = ROWS + SUB_CALLS + aggregate(question) if semantic else code(question, PAGE_READ)
    try:
        exec(written, names)
    except (TypeError, KeyError, IndexError, ValueError):
        return "I do not know: the part of the input that I was shown does not say."
    (answer,) = submitted
    return f"Answer: {answer if isinstance(answer, str) else json.dumps(answer)}"
