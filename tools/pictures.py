"""Make the pictures of docs/seeing-a-run.md: `make pictures` (needs chromium).

Models are played by tests/server, with waits as of real ones; runs, traces, views and browser are real.
"""

from __future__ import annotations

import random
import shutil
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from io import BytesIO, StringIO
from pathlib import Path
from typing import Any

import nbformat
from langchain_openai import ChatOpenAI
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from PIL import Image, ImageChops
from playwright.sync_api import Browser, Page, sync_playwright
from rich.console import Console

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rlm_adapters import Limits, RLMError, Trajectory, create_rlm_graph  # noqa: E402
from rlm_adapters.traces.reader import read_events  # noqa: E402
from rlm_adapters.views.comparison import print_comparison  # noqa: E402
from rlm_adapters.views.console import ConsoleView  # noqa: E402
from tests.server import ModelServer, Reply, cell, rate_limited, server_error, turn_of  # noqa: E402

PICTURES = ROOT / "docs" / "pictures"
NAMES = ("Ann", "Bob", "Cid", "Dora", "Emil", "Fay")
BOOK = "\n".join(
    f"## Chapter {n}\n" + f"{NAMES[n % 6]} walks to the lighthouse and looks for the key.\n" * 40 for n in range(60)
)
ANSWER = (
    "**Dora** finds the key, in chapter 39.\n\n| who | chapters |\n| --- | ---: |\n| Dora | 10 |\n| Emil | 10 |\n\n"
    "- Emil looks in the *wrong* tower.\n- Nobody else goes up the stairs."
)
LOOK = cell(
    "print(len(context))\nchapters = context.split('## ')[1:]\nprint(len(chapters), chapters[0][:60])",
    "I look at its form.",
)
ASK = (
    "prompts = [f'Who finds the key in this chapter, if anybody?\\n\\n{one}' for one in chapters]\n"
    "found = llm_query_batched(prompts)\nprint([one for one in found if one != 'nobody'])"
)


def book(server: ModelServer, *, finder: str = "Dora", seconds: float = 0.4) -> None:
    """Models that find the key."""
    chance = random.Random(finder)  # noqa: S311 - waits

    def sub(messages: Any, _: Any) -> Any:
        said = finder if "Chapter 39\n" in messages[-1]["content"] else "nobody"
        return Reply(said, latency=seconds * (0.5 + chance.random()))

    def root(messages: Any, _: Any) -> Any:
        turns = [
            LOOK,
            cell(ASK, "Each chapter is short: I ask a sub-LM about all at once."),
            cell(f"SUBMIT({ANSWER.replace('Dora', finder)!r})"),
        ]
        return Reply(turns[turn_of(messages)], latency=2 * seconds)

    server.script("gpt-5", root)
    server.script("gpt-5-mini", sub)


def deep(server: ModelServer) -> None:
    """Models that go two child runs deep."""

    def root(messages: Any, _: Any) -> str:
        said = str(messages)
        if "Which tower" in said:
            return cell("SUBMIT(llm_query('Which tower has stairs? ' + context[:200]))")
        if "Where does" in said:
            return cell(
                "SUBMIT(llm_query('Summarise: ' + context[:300]) + ', ' + rlm_query('Which tower is it?', context))"
            )
        return [
            LOOK,
            cell("SUBMIT(rlm_query_batched([f'Where does {name} look?' for name in ('Dora', 'Emil')], chapters[:2]))"),
        ][turn_of(messages)]

    server.script("gpt-5", root)
    server.script("gpt-5-mini", lambda *_: Reply("the northern tower", latency=0.3))


def failing(server: ModelServer) -> None:
    """A cell that raises, sub-calls that are refused, and a root LM that breaks down."""
    turns = [
        cell("chapters = context.split('## ')\nprint(chapters[99])"),
        cell("chapters = context.split('## ')[1:]\n" + ASK),
    ]
    server.script(
        "gpt-5", lambda messages, _: turns[turn_of(messages)] if turn_of(messages) < 2 else server_error(status=400)
    )
    server.script(
        "gpt-5-mini", lambda messages, _: rate_limited(0.01) if "Chapter 2" in str(messages[-1]) else "nobody"
    )


def many(server: ModelServer) -> None:
    """Models of a run with 2,000 sub-calls."""
    chance = random.Random(3)  # noqa: S311
    code = (
        "prompts = [f'{n}: Is the key in {chapters[n % 60][:300]}' for n in range(2_000)]\n"
        "found = llm_query_batched(prompts)\nprint(len(found))"
    )
    turns = [LOOK, cell(code), cell("SUBMIT(f'{found.count(\"yes\")} of {len(found)} passages name the key')")]
    server.script("gpt-5", lambda messages, _: Reply(turns[turn_of(messages)], latency=0.5))

    def sub(*_: Any) -> Any:
        if chance.random() < 0.005:
            return server_error(status=400)
        return Reply("yes" if chance.random() < 0.3 else "no", latency=0.2 + chance.random() ** 3)

    server.script("gpt-5-mini", sub)


def traced(folder: Path, name: str, play: Callable[[ModelServer], None], **limits: Any) -> Path:
    """Run models, and keep the trace."""
    trace = folder / f"{name}.jsonl"
    with ModelServer() as server, suppress(RLMError):
        play(server)
        model, sub = (
            ChatOpenAI(model=one, base_url=server.url, api_key="none", max_retries=0) for one in ("gpt-5", "gpt-5-mini")
        )
        graph = create_rlm_graph(
            model,
            sub,
            trace=trace,
            limits=Limits(max_retries=1, **limits),
            prices={"gpt-5": (1.25, 10), "gpt-5-mini": (0.25, 2)},
        )
        graph.invoke({"query": "Who finds the key, and where?", "context": BOOK})
    return trace


def save(picture: bytes, name: str, *, crop: bool = False) -> None:
    """Keep a picture with 128 colours: a half of the size."""
    image = Image.open(BytesIO(picture)).convert("RGB")
    if crop:
        ground = Image.new("RGB", image.size, image.getpixel((0, 0)))
        box = ImageChops.difference(image, ground).getbbox() or (0, 0, *image.size)
        image = image.crop((0, 0, image.width, min(image.height, box[3] + 8)))
    image = image.quantize(128, dither=Image.Dither.NONE)
    image.save(PICTURES / f"{name}.png", optimize=True)


def terminal(browser: Browser, name: str, columns: int, show: Callable[[Console], None]) -> None:
    """A picture of what is shown in a terminal of a width."""
    console = Console(record=True, width=columns, force_terminal=True, color_system="truecolor", file=StringIO())
    show(console)
    svg = console.export_svg(title="", code_format=SVG)
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    page.set_content(f"<body style='margin:0'>{svg}")
    save(page.locator("svg").first.screenshot(), name, crop=True)
    page.close()


SVG = """<svg viewBox="0 0 {width} {height}" width="{width}" height="{height}" xmlns="http://www.w3.org/2000/svg">
<style>.{unique_id}-matrix {{
  font-family: "DejaVu Sans Mono", monospace; font-size: {char_height}px; line-height: {line_height}px;
}} {styles}</style><defs>{lines}</defs><rect fill="#0c0f14" width="100%" height="100%"/>
<g transform="translate(9, 6)"><g>{backgrounds}</g><g class="{unique_id}-matrix">{matrix}</g></g></svg>"""


def replayed(trace: Path, *, verbose: bool = False) -> Callable[[Console], None]:
    """Show a trace as `rlm show` does."""

    def show(console: Console) -> None:
        with ConsoleView(console, verbose=verbose) as view:
            view._screen._progress.disable = True  # type: ignore[attr-defined]  # noqa: SLF001 - it moves
            for event in read_events(trace):
                view.handle(event)

    return show


def report(browser: Browser, trace: Path, name: str, scheme: str, choose: Callable[[Page], None]) -> None:
    """A picture of a report."""
    path = trace.with_suffix(".html")
    path.write_text(Trajectory.from_trace(trace).to_html(), encoding="utf-8")
    page = browser.new_page(viewport={"width": 1200, "height": 760}, color_scheme=scheme)  # type: ignore[arg-type]
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-ready]")
    choose(page)
    page.mouse.move(0, 0)
    save(page.screenshot(), name)
    page.close()


def notebook(browser: Browser, trace: Path, theme: str) -> None:
    """A picture of a notebook that shows a trajectory and a graph."""
    graph = (
        "from langchain_core.language_models import FakeListChatModel\nfrom rlm_adapters import create_rlm_graph\n\n"
    )
    shown = f"from rlm_adapters import Trajectory\n\nTrajectory.from_trace({trace.name!r})"
    sources = [f"{graph}create_rlm_graph(FakeListChatModel(responses=['']))", shown]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    made = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(made, timeout=120, resources={"metadata": {"path": str(trace.parent)}}).execute()
    path = trace.with_name(f"notebook-{theme}.html")
    path.write_text(HTMLExporter(theme=theme).from_notebook_node(made)[0], encoding="utf-8")
    page = browser.new_page(viewport={"width": 1000, "height": 1300})
    page.route("**/*", lambda route: route.continue_() if route.request.url.startswith("file:") else route.abort())
    page.goto(path.as_uri())
    page.locator(".rlm-root > summary").nth(1).click()
    page.locator(".rlm-call > summary").nth(1).click()
    save(page.screenshot(), f"notebook-{theme}")
    page.close()


def opened(page: Page) -> None:
    """Open all rows, and choose a sub-call."""
    page.click("#expand")
    page.locator(".row").nth(6).click()


def main() -> None:
    """Make all pictures."""
    PICTURES.mkdir(exist_ok=True)
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as driver:
        folder = Path(made)
        browser = driver.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        run = traced(folder, "run", book)
        other = traced(folder, "other", lambda server: book(server, finder="Emil", seconds=0.7))
        for columns in (80, 40):
            terminal(browser, f"terminal-{columns}", columns, replayed(run))
        found = Trajectory.from_trace(run).diff(Trajectory.from_trace(other)).comparison("run.jsonl", "other.jsonl")
        terminal(browser, "diff", 80, lambda console: print_comparison(found, console))
        report(browser, run, "report-light", "light", lambda page: page.locator(".row", has_text="cell").nth(1).click())
        report(browser, run, "report-dark", "dark", opened)
        nested = traced(folder, "deep", deep, max_depth=3)
        report(
            browser,
            nested,
            "report-depth-2",
            "light",
            lambda page: page.locator(".row", has_text="child").nth(1).click(),
        )
        failed = traced(folder, "failed", failing)
        report(browser, failed, "report-failed", "light", lambda page: page.locator(".row .title.bad").nth(2).click())
        big = traced(folder, "many", many, max_calls=None)
        report(browser, big, "report-2000", "dark", opened)
        for theme in ("light", "dark"):
            notebook(browser, run, theme)
        browser.close()
    print(sum(path.stat().st_size for path in PICTURES.iterdir()), "bytes")  # noqa: T201


if __name__ == "__main__":
    main()
