"""The engine on a real input of about 10 MB: the source code of Python's standard library.

Without a key it uses prepared model replies (and says so); everything else is real. With OPENAI_API_KEY, or
OPENAI_BASE_URL for a local OpenAI-compatible server, it uses a real model; RLM_MODEL names it.

    python examples/demo.py [TRACE]

With TRACE the run is written to that file: view it with `rlm show TRACE` or `rlm report TRACE`.
"""

from __future__ import annotations

import asyncio
import os
import re
import sys
import sysconfig
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import BaseMessage
from rich.console import Console
from scripted import ScriptedChatModel, by_turn

from rlm_adapters import Limits, create_rlm_graph
from rlm_adapters.models.providers import open_chat_model
from rlm_adapters.views.console import ConsoleView

QUESTION = "Which five modules define the most coroutines (`async def`), how many each, and what is each one for?"
LARGEST_PROMPT = 20_000  # bytes; the input is about 500 times larger

CELLS = (
    """The context is code by path. I look at its shape first.

```repl
print(type(context), len(context), "files", sum(map(len, context.values())), "characters")
print(list(context)[:8])
```""",
    """Counting is work for code, not for a model.

```repl
import re
from collections import Counter

counts = Counter({name: len(re.findall(r"^\\s*async def ", text, re.M)) for name, text in context.items()})
top = counts.most_common(5)
for name, count in top:
    print(f"{count:4} {name}")
```""",
    """What each one is for is in its first lines: a sub-LM reads those.

```repl
purposes = []
for name, count in top:
    prompt = f"In one short sentence, what is the Python module {name} for?\\n\\n{context[name][:3000]}"
    purposes.append(llm_query(prompt))
FINAL("\\n".join(f"{name} ({count}): {purpose.strip()}" for (name, count), purpose in zip(top, purposes)))
```""",
)


def first_sentence(messages: Sequence[BaseMessage]) -> str:
    """What the scripted sub-LM answers: the first sentence of the module's docstring, or of its first comment."""
    time.sleep(0.3)  # the time of a small model; the five calls of the loop run at the same time
    source = messages[-1].text.partition("\n\n")[2]
    found = re.search(r'"""(.+?)"""', source, re.DOTALL) or re.search(r"^# ?(.+)$", source, re.MULTILINE)
    text = " ".join(found.group(1).split()) if found else "no description in its first lines"
    return text.split(". ")[0].rstrip(".") + "."


class PromptMeter(BaseCallbackHandler):
    """Measures the prompts of the model that it is attached to."""

    largest = 0

    def on_chat_model_start(self, serialized: Any, messages: list[list[BaseMessage]], **_: Any) -> None:
        del serialized
        size = sum(len(message.text.encode()) for message in messages[0])
        self.largest = max(self.largest, size)


def library() -> dict[str, str]:
    """The standard library's own modules, without its tests, by path."""
    root = Path(sysconfig.get_path("stdlib"))
    skipped = {"site-packages", "test", "tests", "idle_test", "__pycache__"}
    paths = [path for path in sorted(root.rglob("*.py")) if not skipped & set(path.relative_to(root).parts)]
    return {path.relative_to(root).as_posix(): path.read_text(errors="replace") for path in paths}


@asynccontextmanager
async def models(console: Console) -> AsyncIterator[tuple[BaseChatModel, BaseChatModel]]:
    """Root LM and sub-LM: real ones where the environment names a server, else scripted."""
    if os.environ.get("OPENAI_API_KEY") or os.environ.get("OPENAI_BASE_URL"):
        name = os.environ.get("RLM_MODEL", "openai:gpt-5-mini")
        console.print(f"Model: {name}")
        async with open_chat_model(name) as root, open_chat_model(name) as sub:
            yield root, sub
    else:
        console.print(
            "[bold yellow]Scripted model[/]: no OPENAI_API_KEY or OPENAI_BASE_URL is set, so the replies of root LM "
            "and sub-LM are prepared ones. The engine, the sandbox, the cells, their output and the input are real."
        )
        yield (
            ScriptedChatModel(name="scripted-root", reply=by_turn(*CELLS)),
            ScriptedChatModel(name="scripted-sub", reply=first_sentence),
        )


async def main(trace: str | None) -> int:
    console = Console()
    context = library()
    size = sum(len(text.encode()) for text in context.values())
    console.print(f"Input: {len(context)} modules of Python's standard library, {size / 1e6:.1f} MB")
    meter = PromptMeter()
    async with models(console) as (root, sub):
        root.callbacks = [meter]
        with ConsoleView(console) as view:
            graph = create_rlm_graph(root, sub, limits=Limits(max_seconds=600), on_event=view.handle, trace=trace)
            result = await graph.ainvoke({"query": QUESTION, "context": context})
            graph.close()
    console.print(f"Largest root prompt: {meter.largest:,} bytes for {size:,} bytes of input")
    if result["finish_reason"] not in {"submitted", "text"}:
        console.print(f"[red]No answer: {result['finish_reason']}, {result['error']}[/]")
        return 1
    if meter.largest > LARGEST_PROMPT:
        console.print(f"[red]That is more than {LARGEST_PROMPT:,} bytes: the input must not enter the prompt[/]")
        return 1
    counts = {name: len(re.findall(r"^\s*async def ", text, re.MULTILINE)) for name, text in context.items()}
    top = sorted(counts, key=lambda name: -counts[name])[:5]
    missing = [name for name in top if name not in str(result["answer"])]
    console.print(f"Checked against a direct count: {'it names all five' if not missing else f'lacks {missing}'}")
    return 0 if not missing else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main(sys.argv[1] if len(sys.argv) > 1 else None)))
