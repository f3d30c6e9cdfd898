"""Build the documentation site: ``python tools/site.py`` (in the virtual environment of `make docs`).

The pages in ``docs/`` are written for GitHub: links lead to other pages and to files of the repository. This copies
them to ``build/docs``, points links to other files at GitHub, builds ``build/site`` with Zensical, warnings as errors,
and checks the result: each link and each anchor exists, and no page loads anything from the network.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

ROOT = Path(__file__).resolve().parent.parent
DOCS, PAGES, SITE = ROOT / "docs", ROOT / "build" / "docs", ROOT / "build" / "site"
REPOSITORY = "https://github.com/rlm-adapters/rlm-adapters"
ALSO = {ROOT / "CONTRIBUTING.md": "contributing.md", ROOT / "CHANGELOG.md": "changelog.md"}
"""Files of the repository that are pages of the site too."""

_SHIM = "https://unpkg.com/iframe-worker/shim"
"""Loaded by Zensical's offline search; tools/worker_on_disk.js takes its place."""
_COUNTED = ' data-md-component="source"'
"""Makes the link to the repository ask GitHub for its stars, on every page."""

_LINK_OR_CODE = re.compile(
    r"^```.*?^```|`[^`\n]+`|(?P<before>\[(?:[^\]`]|`[^`\n]*`)*\]\()(?P<link>[^()\s]+)(?=\))", re.DOTALL | re.MULTILINE
)


def main() -> int:
    """Build and check; print what is wrong. Returns the exit status."""
    shutil.rmtree(ROOT / "build" / "docs", ignore_errors=True)
    shutil.rmtree(SITE, ignore_errors=True)
    shutil.copytree(DOCS, PAGES)
    shutil.copy(ROOT / "tools" / "site.css", PAGES)
    sources = {path: path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} | ALSO
    wrong = []
    for source, name in sources.items():
        text, lost = page(source, name)
        (PAGES / name).write_text(text)
        wrong += [f"{source.relative_to(ROOT)}: {link} does not exist" for link in lost]
    if not wrong:
        zensical = Path(sys.executable).with_name("zensical")
        built = subprocess.run([zensical, "build", "--strict", "--clean"], cwd=ROOT, check=False)  # noqa: S603
        if built.returncode:
            wrong.append("zensical build failed")
        else:
            without_network()
            wrong += check_site()
    print("\n".join(wrong) or f"{len(sources)} pages in {SITE.relative_to(ROOT)}")  # noqa: T201
    return 1 if wrong else 0


def page(source: Path, name: str) -> tuple[str, list[str]]:
    """A page as the site has it, and the links in it that lead nowhere.

    Args:
        source: the Markdown file in the repository.
        name: of the page below ``build/docs``.
    """
    lost: list[str] = []

    def point(match: re.Match[str]) -> str:
        before, link = match["before"], match["link"]
        if link is None:
            return match[0]
        parts = urlsplit(link)
        if parts.scheme or not parts.path:
            return match[0]
        file = (source.parent / unquote(parts.path)).resolve()
        if not file.exists() or not file.is_relative_to(ROOT):
            lost.append(link)
            return match[0]
        anchor = f"#{parts.fragment}" if parts.fragment else ""
        inside = ALSO.get(file) or (file.relative_to(DOCS).as_posix() if file.is_relative_to(DOCS) else None)
        if inside is not None:
            return f"{before}{os.path.relpath(inside, Path(name).parent)}{anchor}"
        kind = "tree" if file.is_dir() else "blob"
        return f"{before}{REPOSITORY}/{kind}/main/{file.relative_to(ROOT).as_posix()}{anchor}"

    return _LINK_OR_CODE.sub(point, source.read_text()), lost


def without_network() -> None:
    """Let the built pages ask for nothing from the network, and their search work from the disk."""
    shim = SITE / "assets" / "javascripts" / "worker_on_disk.js"
    shutil.copy(ROOT / "tools" / shim.name, shim)
    for path in SITE.rglob("*.html"):
        text = path.read_text().replace(_COUNTED, "")
        path.write_text(text.replace(_SHIM, os.path.relpath(shim, path.parent)))


class _Links(HTMLParser):
    """The ids, the links and the addresses of what is loaded, of one HTML page."""

    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids |= {given[name] for name in ("id", "name") if name in given}
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        elif tag in ("script", "img", "iframe", "source") and "src" in given:
            self.loaded.append(given["src"])
        elif tag == "link" and given.get("rel") in ("stylesheet", "icon", "preload"):
            self.loaded.append(given["href"])


def check_site() -> list[str]:
    """What is wrong in the built pages."""
    pages: dict[Path, _Links] = {}
    for path in SITE.rglob("*.html"):
        pages[path] = _Links()
        pages[path].feed(path.read_text())
    wrong = []
    for path, found in pages.items():
        if path.name == "404.html":  # its links begin at the root of the server
            continue
        name = path.relative_to(SITE)
        wrong += [f"{name} loads {url} from the network" for url in found.loaded if urlsplit(url).netloc]
        for link in [*found.links, *found.loaded]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            target = target / "index.html" if target.is_dir() else target
            if not target.exists():
                wrong.append(f"{name}: {link} does not exist")
            elif parts.fragment and target in pages and unquote(parts.fragment) not in pages[target].ids:
                wrong.append(f"{name}: {link}: no such place in the page")
    return wrong


if __name__ == "__main__":
    sys.exit(main())
