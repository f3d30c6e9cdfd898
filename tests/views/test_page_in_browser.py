"""Reports in a real browser: nothing is loaded, nothing is run that the page did not bring, and it can be used."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from rlm_adapters import Trajectory
from rlm_adapters.views.page.page import render
from tests.traces.runs import varied
from tests.views.page_samples import ATTACKS, sample

playwright = pytest.importorskip("playwright.sync_api")
ROOT = Path(__file__).parent.parent.parent
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")]


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as driver:
        started = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


@pytest.fixture
def show(browser, tmp_path):
    """Open a page's text as a file; what went wrong in it fails the test at its end."""
    troubles, opened = [], []

    def _show(text, **options):
        path = tmp_path / "report.html"
        path.write_text(text, encoding="utf-8")
        page = browser.new_page(**options)
        opened.append(page)
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text) if message.type == "error" else None)
        page.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: None if request.url == path.as_uri() else troubles.append(request.url))
        page.goto(path.as_uri())
        page.wait_for_selector("html[data-ready]")
        return page

    yield _show
    for page in opened:
        page.close()
    assert troubles == []


def test_the_report_of_the_demo(show, tmp_path):
    trace = tmp_path / "demo.jsonl"
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("OPENAI_", "RLM_"))}
    demo = [sys.executable, "examples/demo.py", str(trace)]
    subprocess.run(demo, cwd=ROOT, env=environment, check=True, capture_output=True)
    page = show(Trajectory.from_trace(trace).to_html())
    assert "Which five modules" in page.text_content("#question")
    assert "asyncio" in page.text_content("#answer-text")
    assert page.locator(".row", has_text="sub-call").count() == 5
    page.fill("#search", "asyncio/")
    assert page.text_content("#count").split(" of ")[0] != "0"
    page.locator(".row", has_text="sub-call").first.click()
    assert "In one short sentence" in page.text_content("#details")
    page.fill("#search", "")
    page.locator(".row", has_text="cell").nth(2).click()
    assert page.locator("#details .h-s").count() > 0, "the code is coloured"
    assert "took" in page.text_content("#details .facts")


def test_the_report_of_a_run_with_everything_in_it(show, model_server, chat, sandbox):
    page = show(Trajectory.from_events(varied(model_server, chat, sandbox)).to_html())
    assert page.locator(".row").count() == 13
    page.click("[data-flag=failed]")
    assert "ZeroDivisionError" not in page.text_content("#tree")
    page.locator(".row .title.bad").first.click()
    assert "ZeroDivisionError" in page.text_content("#details")
    page.click("[data-flag=failed]")
    page.locator(".row", has_text="child RLM").click()
    assert "1 sub-calls" in page.text_content("#details").replace("sub-calls 1", "1 sub-calls")
    page.locator(".row", has_text="tool").first.click()
    assert "whale is known" in page.text_content("#details")


@pytest.mark.parametrize("attack", ATTACKS)
def test_what_a_model_wrote_is_text(attack, show):
    page = show(render(sample(8, attack=attack)))
    page.click("#expand")
    for row in range(3):
        page.locator(".row").nth(row).click()
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate("window.attacked") is None
    assert page.evaluate("document.querySelectorAll('script').length") == 2
    assert page.evaluate("document.querySelectorAll('img, svg, b b, iframe, link, style + style').length") == 0
    if attack.isprintable():
        assert page.text_content("#answer-text") == f"Ishmael{attack}"


def test_rows_open_and_show_their_texts(show):
    page = show(render(sample(8, iterations=2)))
    assert page.text_content("#question") == "Who speaks in the book?"
    page.click("#collapse")
    assert page.locator(".row").count() == 4
    page.locator(".row", has_text="cell").first.locator(".twist").click()
    assert page.locator(".row").count() == 8
    page.locator(".row", has_text="paragraph 0.2").click()
    assert "took" in page.text_content("#details .facts")
    assert page.text_content("#details pre").startswith("Who speaks? paragraph 0.2")
    assert page.url.endswith("#n4")
    page.locator(".row", has_text="cell").first.click()
    assert page.locator("#details .h-s").count() > 0


def test_search_and_filters(show):
    page = show(render(sample(2000)))
    page.keyboard.press("/")
    page.keyboard.type("paragraph 3.412")
    playwright.expect(page.locator("#count")).to_have_text("1 of 2,008")
    assert page.locator(".row", has_text="paragraph 3.412").count() == 1
    page.keyboard.press("Escape")
    page.click("[data-flag=failed]")
    failed = int(page.text_content("[data-flag=failed]").split()[-1])
    assert failed > 0
    assert page.text_content("#count").startswith(f"{failed} of")
    assert page.locator(".row .title.bad").count() > 0


def test_keys(show):
    page = show(render(sample(8, iterations=2)))
    page.focus("#tree")
    page.keyboard.press("Home")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowLeft")
    assert page.locator(".row").count() == 8
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    assert "paragraph 0.0" in page.text_content("[aria-selected=true]")
    page.keyboard.press("t")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"


def test_the_timeline_shows_what_ran_at_once(show):
    page = show(render(sample(64, iterations=1)))
    box = page.locator("#timeline").bounding_box()
    assert box["height"] > 100  # 32 calls one above the other
    page.mouse.click(box["x"] + 5, box["y"] + 8)
    assert "root LM" in page.text_content("[aria-selected=true]")


def test_ten_thousand_calls_stay_fluid(show, capsys):
    text = render(sample(10_000))
    page = show(text)
    load = page.evaluate("performance.getEntriesByType('navigation')[0].domComplete / 1000")
    page.click("#expand")
    assert page.locator(".row").count() < 100  # only what is seen is in the document
    page.focus("#tree")
    page.keyboard.press("End")
    assert "paragraph 3.2499" in page.text_content("[aria-selected=true]")
    with capsys.disabled():
        print(f"\n10,000 sub-calls: {len(text.encode()) / 1e6:.1f} MB, loaded in {load:.2f} s")


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_nothing_is_wider_than_the_window(width, scheme, show):
    page = show(render(sample(40)), viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
