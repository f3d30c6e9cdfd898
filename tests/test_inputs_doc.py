"""docs/inputs.md is true: its code runs as it stands, and its bounds are those of the code."""

import http.server
import re
import threading
from functools import partial
from pathlib import Path

from rlm_adapters.values import converter, documents, urls
from tests.server import cell

TEXT = (Path(__file__).parent.parent / "docs" / "inputs.md").read_text()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def test_the_code_runs(model_server, monkeypatch, tmp_path):
    from tests.values.office import docx

    monkeypatch.setenv("OPENAI_API_KEY", "test")
    monkeypatch.setenv("OPENAI_BASE_URL", model_server.url)
    monkeypatch.chdir(tmp_path)
    Path("letter.docx").write_bytes(docx("Dear reader"))
    Path("book.html").write_text("<p>by Anna</p>")
    Path("notes").mkdir()
    Path("notes/a.txt").write_text("a note")
    seen = []
    model_server.script("gpt-5", lambda messages, request: seen.append(str(messages)) or cell("SUBMIT('ok')"))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(tmp_path)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
            code = block.replace("localhost:8000", f"127.0.0.1:{server.server_port}")
            exec(compile(code, "docs/inputs.md", "exec"), {})
    finally:
        server.shutdown()
        server.server_close()
    assert "Dear reader" in seen[0]
    assert "notes/a.txt" in seen[0]
    assert "by Anna" in seen[1]


def test_the_bounds_are_those_of_the_code():
    assert documents.DOCUMENT_BYTES == documents.TEXT_BYTES == 256 << 20
    assert documents.SECONDS == 120
    assert converter._MEMORY_BYTES == 3 << 30
    assert urls.URL("https://x.org").max_bytes == 64 << 20
    assert urls._REDIRECTS == 5
    for bound in ("256 MB", "120 seconds", "3 GB", "64 MB", "five redirects"):
        assert bound in TEXT


def test_every_kind_of_document_is_named():
    assert {suffix for suffix in documents._TYPES if suffix not in (".htm", ".xhtml")} == set(
        re.findall(r"`(\.\w+)`", TEXT.split("## Files")[1].split("| Markdown")[0])
    ) - {".gz"}
