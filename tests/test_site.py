"""The documentation site: links of the pages, and what `make docs` refuses."""

import importlib.util
import tomllib

import pytest

from tests.test_readme import ROOT

SPEC = importlib.util.spec_from_file_location("site_builder", ROOT / "tools" / "site.py")
site = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(site)


def listed(entries):
    """All pages of a navigation, nested ones too."""
    for entry in entries:
        for value in entry.values():
            yield from listed(value) if isinstance(value, list) else [value]


def test_the_navigation_names_pages_that_exist_each_once():
    pages = list(listed(tomllib.loads((ROOT / "zensical.toml").read_text())["project"]["nav"]))
    assert len(pages) == len(set(pages))
    known = {path.name for path in (ROOT / "docs").glob("*.md")} | set(site.ALSO.values())
    assert set(pages) <= known


@pytest.mark.parametrize("path", sorted((ROOT / "docs").glob("*.md")) + sorted(site.ALSO), ids=lambda path: path.name)
def test_no_page_has_a_link_that_leads_nowhere(path):
    assert site.page(path, site.ALSO.get(path, path.name))[1] == []


def test_a_link_leads_to_the_page_or_to_the_repository(tmp_path, monkeypatch):
    docs = tmp_path / "docs"
    docs.mkdir()
    (tmp_path / "examples").mkdir()
    (docs / "other.md").touch()
    (docs / "page.md").write_text(
        "[a](other.md#part) [b](../examples) [c](https://x.org/y) [d](#here) [e](lost.md) `[f](lost.md)` [`g`](../examples)\n"
        "```python\nprint([1](2))\n```\n"
    )
    monkeypatch.setattr(site, "ROOT", tmp_path)
    monkeypatch.setattr(site, "DOCS", docs)
    text, lost = site.page(docs / "page.md", "page.md")
    assert f"[a](other.md#part) [b]({site.REPOSITORY}/tree/main/examples) [c](https://x.org/y) [d](#here)" in text
    assert "`[f](lost.md)` [`g`](https" in text
    assert "print([1](2))" in text
    assert lost == ["lost.md"]


def test_what_is_wrong_in_a_built_site_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(site, "SITE", tmp_path)
    (tmp_path / "a.html").write_text(
        '<h1 id="top"></h1><a href="b.html#top"></a><a href="#top"></a><a href="gone.html"></a><a href="b.html#gone"></a>'
        '<script src="https://cdn.example/x.js"></script>'
    )
    (tmp_path / "b.html").write_text('<h1 id="top"></h1>')
    assert site.check_site() == [
        "a.html loads https://cdn.example/x.js from the network",
        "a.html: gone.html does not exist",
        "a.html: b.html#gone: no such place in the page",
    ]
