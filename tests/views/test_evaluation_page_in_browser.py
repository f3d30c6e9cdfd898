"""The page of `rlm eval` in a real browser: what models wrote is text, and nothing is loaded."""

import shutil

import pytest

from rlm_adapters.evaluation import Evaluation, Result, setting_of
from tests.views.page_samples import ATTACKS

playwright = pytest.importorskip("playwright.sync_api")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [pytest.mark.browser, pytest.mark.skipif(not CHROMIUM, reason="no chromium on this machine")]


def evaluation():
    """Results whose every text is an attack."""
    results = [
        Result(
            setting=setting, task=f"s_niah/{size}/held_out/0/{number}", family="s_niah", size=size, answer=attack,
            expected=attack, why=attack, finish_reason=attack, error=attack, trace=attack,
        )
        for setting in ("direct", "rlm-1")
        for size in (10_000, 100_000)
        for number, attack in enumerate(ATTACKS)
    ]  # fmt: skip
    return Evaluation(
        asked=dict.fromkeys(("model", "sub_model", "seed", "split", "version"), ATTACKS[0]),
        settings=[setting_of("direct"), setting_of("rlm-1")],
        families=["s_niah"],
        sizes=[10_000, 100_000],
        total=len(results),
        results=results,
        voids=1,
        stopped=ATTACKS[0],
    )


def test_attacks_are_shown_as_text(tmp_path):
    path, troubles, asked = tmp_path / "page.html", [], []
    path.write_text(evaluation().to_html(), encoding="utf-8")
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--disable-gpu"])
        page = browser.new_page()
        page.on("pageerror", lambda error: troubles.append(str(error)))
        page.on("console", lambda message: troubles.append(message.text))
        page.on("dialog", lambda dialog: (troubles.append("a dialog"), dialog.dismiss()))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        shown = page.locator("td.wrong").all_text_contents()
        counts = [page.locator(one).count() for one in ("script", "img", "iframe", "a", "table", "circle")]
        browser.close()
    assert (troubles, asked) == ([], [path.as_uri()])
    assert counts == [0, 0, 0, 0, 4, 4]
    assert len(shown) == 6 * 4 * len(ATTACKS)
    assert {" ".join(ATTACKS[0].split())} <= {" ".join(one.split()) for one in shown}
