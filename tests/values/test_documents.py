"""Office documents, e-books, pages and images: read, bounded, and converted where they can do no harm."""

import base64
import http.server
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from rlm_adapters import create_rlm_graph
from rlm_adapters.errors import InputError, MissingExtraError
from rlm_adapters.values import documents
from rlm_adapters.values.documents import Converter, document_type
from rlm_adapters.values.inputs import load_paths
from tests.server import cell
from tests.values.office import docx, epub, odf, packed, pptx, xlsx

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
HTML = b"<html><body><h1>Title</h1><p>Some <b>bold</b> text</p><script>alert(1)</script></body></html>"


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Write a file; returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return name

    return write


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("letter.docx", docx("Dear reader"), ["Dear reader"]),
        ("cities.xlsx", xlsx([["city", "people"], ["Rome", 2800000]], "Cities"), ["Cities", "city", "Rome", "2800000"]),
        ("talk.pptx", pptx("First point"), ["First point"]),
        ("book.epub", epub("The first chapter.", "The second."), ["The first chapter.", "The second."]),
        ("letter.odt", odf("text", "<text:p>Open words</text:p>"), ["Open words"]),
        (
            "cities.ods",
            odf(
                "spreadsheet",
                '<table:table table:name="S"><table:table-row><table:table-cell office:value-type="string">'
                "<text:p>Rome</text:p></table:table-cell></table:table-row></table:table>",
            ),
            ["Rome"],
        ),
        ("page.html", HTML, ["# Title", "**bold**"]),
        ("note.rtf", rb"{\rtf1\ansi Plain words\par}", ["Plain words"]),
        ("mail.eml", b"From: a@b.c\nSubject: Hi\nContent-Type: text/plain\n\nThe body.\n", ["The body."]),
    ],
)
def test_a_document_is_its_markdown(write, name, content, words):
    loaded = load_paths([write(name, content)])
    assert isinstance(loaded.context, str)
    for word in words:
        assert word in loaded.context
    assert "alert" not in loaded.context
    assert loaded.notes == ()


def test_documents_of_a_directory_are_converted_and_html_stays_as_it_is(write):
    write("d/letter.docx", docx("Dear reader"))
    write("d/page.html", HTML)
    write("d/a.txt", "text")
    write("d/photo.png", PNG)
    loaded = load_paths(["d"])
    assert list(loaded.context) == ["a.txt", "letter.docx", "page.html"]
    assert loaded.context["letter.docx"].strip() == "Dear reader"
    assert loaded.context["page.html"] == HTML.decode()


def test_a_broken_document_in_a_directory_is_skipped_with_its_reason(write):
    write("d/bad.docx", b"PK\x03\x04 nothing")
    write("d/good.docx", docx("good"))
    loaded = load_paths(["d"])
    assert list(loaded.context) == ["good.docx"]
    assert any("bad.docx cannot be converted" in note for note in loaded.notes)


def test_an_image_is_a_content_block(write):
    loaded = load_paths([write("photo.png", PNG)])
    assert loaded.context == {"type": "image", "mime_type": "image/png", "base64": base64.b64encode(PNG).decode()}


def test_an_image_goes_to_a_sub_lm_that_sees_it(model_server, chat, sandbox, tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(PNG)
    prompts = []

    def root(messages, request):
        prompts.append(str(messages))
        return cell("SUBMIT(llm_query(['What is on it?', context]))")

    def sub(messages, request):
        (text, image) = messages[-1]["content"]
        assert image["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
        return f"{text['text']} a dot"

    model_server.script("root", root)
    model_server.script("sub", sub)
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
    assert graph.invoke({"query": "q", "context": path})["answer"] == "What is on it? a dot"
    assert 'llm_query(["What is on it?", context]) shows it to a sub-LM' in prompts[0]
    assert base64.b64encode(PNG).decode() not in prompts[0]


def test_without_the_extra_the_remedy_is_named_and_html_is_text(write, monkeypatch):
    monkeypatch.setattr(documents.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"letter.docx: .* pip install 'rlm-adapters\[documents\]'"):
        load_paths([write("letter.docx", docx("x"))])
    loaded = load_paths([write("page.html", HTML)])
    assert loaded.context == HTML.decode()
    assert "rlm-adapters[documents]" in loaded.notes[0]


def test_the_suffix_alone_does_not_make_a_document(write):
    assert document_type("a.docx", b"plain text") is None
    assert load_paths([write("a.docx", "plain text")]).context == "plain text"


# Hostile documents

NAMESPACE = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'


def document(text, doctype=""):
    body = f"<w:body><w:p><w:r><w:t>{text}</w:t></w:r></w:p></w:body>"
    return f'<?xml version="1.0"?>{doctype}<w:document {NAMESPACE}>{body}</w:document>'


def test_a_zip_bomb_is_refused(write):
    data = docx("", xml=document("A" * (200 << 20)))
    assert len(data) < 1 << 20
    with pytest.raises(InputError, match=r"bomb.docx cannot be converted: .*limit"):
        load_paths([write("bomb.docx", data)])


def test_entities_are_neither_expanded_nor_read_from_files(write, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("hidden words")
    outer = f'<!DOCTYPE d [<!ENTITY x SYSTEM "file://{secret}">]>'
    steps = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(9))
    laughs = f'<!DOCTYPE d [<!ENTITY e0 "ha">{steps}]>'
    write("d/file.docx", docx("", xml=document("&x;", outer)))
    write("d/laughs.docx", docx("", xml=document("&e9;", laughs)))
    write("d/good.txt", "good")
    started = time.monotonic()
    loaded = load_paths(["d"])
    assert "hidden words" not in str(loaded.context)
    assert len(str(loaded.context)) < 10_000
    assert time.monotonic() - started < 60


def test_nothing_is_fetched_from_inside_of_a_document(write):
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    page = f'<html><head><link rel="stylesheet" href="{address}/a.css"></head><body><img src="{address}/b.png">text'
    links = (("image", f"{address}/c.png", ' TargetMode="External"'), ("attachedTemplate", f"{address}/d.dotm", ""))
    try:
        assert "text" in load_paths([write("page.html", page)]).context
        assert "words" in load_paths([write("letter.docx", docx("words", links=links))]).context
        assert "chapter" in load_paths([write("book.epub", epub(f'<img src="{address}/e.png"/>chapter'))]).context
    finally:
        server.shutdown()
        server.server_close()
    assert asked == []


@pytest.mark.skipif(sys.platform != "linux", reason="the layers are Linux's")
def test_the_converter_can_open_no_file_and_no_connection_and_sees_no_secret(monkeypatch):
    probe = """
        import os, socket, subprocess
        from rlm_adapters.values import converter
        converter.confine(lambda: converter.convert(b"<p>x</p>", "text/html"))
        tries = {
            "file": lambda: open("/etc/hostname").read(),
            "folder": lambda: os.listdir("/"),
            "socket": lambda: socket.socket(),
            "process": lambda: os.fork(),
            "program": lambda: os.execv("/bin/true", ["true"]),
            "memory": lambda: bytearray(5 << 30),
        }
        for name, act in tries.items():
            try:
                act()
            except (OSError, MemoryError):
                print(name, "refused")
        print(converter.convert(b"<p>still works</p>", "text/html"), flush=True)
        os._exit(0)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(probe)], capture_output=True, text=True, check=False)
    assert done.stdout.split("\n")[:6] == [
        f"{name} refused" for name in ("file", "folder", "socket", "process", "program", "memory")
    ], done.stderr
    assert "still works" in done.stdout
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    with Converter() as converter:
        converter.markdown("a.html", HTML, "text/html")
        assert b"sk-secret" not in Path(f"/proc/{converter._process.pid}/environ").read_bytes()


def test_a_conversion_that_takes_too_long_ends_and_the_next_one_works():
    with Converter(seconds=0.0) as converter, pytest.raises(InputError, match="took longer than 0 seconds"):
        converter.markdown("slow.html", b"<p>" + b"x" * (8 << 20), "text/html")
    with Converter() as converter:
        with pytest.raises(InputError, match="cannot be converted"):
            converter.markdown("bad.docx", b"PK\x03\x04", document_type("a.docx", b"PK\x03\x04"))
        assert "words" in converter.markdown("good.docx", docx("words"), document_type("a.docx", b"PK\x03\x04"))


@pytest.mark.parametrize("answer", [b"", b"T", b"T 99999999999999\n", b"T -5\n", b"T 10\nshort", b"x" * 200])
def test_a_converter_that_was_taken_over_is_not_believed(answer):
    class Fake:
        def __init__(self):
            import io

            self.stdin, self.stdout = io.BytesIO(), io.BytesIO(answer)

        def kill(self):
            pass

        def wait(self):
            pass

    converter = Converter()
    converter._process = Fake()
    with pytest.raises(InputError, match=r"evil.html cannot be converted"):
        converter.markdown("evil.html", HTML, "text/html")
    assert converter._process is None


def test_a_document_that_is_too_large_is_refused(monkeypatch):
    monkeypatch.setattr(documents, "DOCUMENT_BYTES", 10)
    with Converter() as converter, pytest.raises(InputError, match="more than 0 MB"):
        converter.markdown("big.html", HTML, "text/html")
    assert converter._process is None


def test_an_archive_with_the_name_of_a_document_is_refused(write):
    with pytest.raises(InputError, match=r"a.docx cannot be converted"):
        load_paths([write("a.docx", packed({"evil.txt": "x", "../../up.txt": "y"}))])


async def test_a_graph_converts_off_the_event_loop(chat, sandbox, tmp_path, model_server, monkeypatch):
    path = tmp_path / "letter.docx"
    path.write_bytes(docx("Dear reader"))
    model_server.script("root", [cell("SUBMIT(context.strip())")])
    converted_in = []
    convert = Converter.markdown

    def noted(self, *arguments):
        converted_in.append(threading.current_thread())
        return convert(self, *arguments)

    monkeypatch.setattr(Converter, "markdown", noted)
    result = await create_rlm_graph(chat("root"), sandbox=sandbox).ainvoke({"query": "q", "context": path})
    assert result["answer"] == "Dear reader"
    assert threading.current_thread() not in converted_in
    assert len(converted_in) == 1
