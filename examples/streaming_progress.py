"""Progress in a terminal while an RLM works: python streaming_progress.py [FILE QUESTION].

The token stream has only the answer. Progress is sent as custom events. RLM_MODEL names the inner model.
"""

import asyncio
import os
import sys
from pathlib import Path

from rlm_adapters import ChatRLM

BOOK = Path(__file__).parent / "data" / "origin-of-species.txt"


def told(event: dict) -> str | None:
    """One line for an event, None for those that are not worth one."""
    data, progress = event["data"], event["progress"]
    match event["type"]:
        case "iteration_started":
            cost = "unknown cost" if progress["cost"] is None else f"${progress['cost']:.4f}"
            return f"turn {progress['iterations']} (so far {cost})"
        case "code":
            return "".join(f"    | {line}\n" for line in data["code"].splitlines()).rstrip()
        case "cell_output":
            return f"    {data['stdout_chars']:,} characters of output"
        case "call_finished":
            return f"    sub-calls: {progress['calls_finished']} of {progress['calls_started']}"
    return None


async def main(text: str, question: str) -> None:
    model = ChatRLM(model=os.environ.get("RLM_MODEL", "openai:gpt-5-mini"))
    messages = [("human", text), ("human", question)]
    async for event in model.astream_events(messages, version="v2"):
        if event["event"] == "on_custom_event":
            line = told(event["data"])
            if line:
                print(line, file=sys.stderr)
        elif event["event"] == "on_chat_model_stream":
            print(event["data"]["chunk"].text, end="", flush=True)
    print()


path, question = sys.argv[1:] or (BOOK, "What does Darwin say about slave-making ants, and in which chapter?")
asyncio.run(main(Path(path).read_text(), question))
