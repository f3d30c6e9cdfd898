import datetime as dt
import gzip
import io
import json
from pathlib import Path
from types import SimpleNamespace

import pypdf
import pytest
from langchain_core.documents import Document

from rlm_adapters.errors import InputError
from rlm_adapters.values import inputs
from rlm_adapters.values.inputs import documents_to_records, is_document, load_paths

BOOK = Path(__file__).parents[1] / "data" / "Origin-of-Species.pdf"


@pytest.fixture
def write(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    def write(name, content):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path

    return write


def pdf(texts, password=None):
    """A PDF of empty pages is easy to make; one with text is cut from the book."""
    writer = pypdf.PdfWriter()
    book = pypdf.PdfReader(BOOK)
    for text in texts:
        if text is None:
            writer.add_blank_page(200, 200)
        else:
            writer.add_page(book.pages[text])
    if password is not None:
        writer.encrypt(password, algorithm="RC4-128")
    buffer = io.BytesIO()
    writer.write(buffer)
    return buffer.getvalue()


# What becomes of good inputs


def test_one_text_file_is_a_string(write):
    loaded = load_paths([write("a.txt", "hällo")])
    assert loaded.context == "hällo"
    assert loaded.files == {"a.txt": Path("a.txt").absolute()}
    assert loaded.notes == ()


def test_a_pdf_is_the_list_of_its_pages_and_a_file_of_the_workspace(write):
    path = write("cut.pdf", pdf([51, None, 52]))
    loaded = load_paths([path])
    assert len(loaded.context) == 3
    assert "ten thousand sharp wedges" in loaded.context[0]
    assert loaded.context[1] == ""
    assert loaded.files == {"cut.pdf": path}


def test_a_pdf_is_known_by_its_content_not_its_name(write):
    assert isinstance(load_paths([write("book", pdf([51]))]).context, list)


def test_several_files_are_a_dict_by_name(write):
    loaded = load_paths([write("a.txt", "A"), write("sub/b.md", "B"), write("c.pdf", pdf([51]))])
    assert loaded.context["a.txt"] == "A"
    assert loaded.context["b.md"] == "B"
    assert "wedges" in loaded.context["c.pdf"][0]
    assert list(loaded.files) == ["a.txt", "b.md", "c.pdf"]


def test_files_of_the_same_name_keep_their_paths(write):
    write("x/a.txt", "1")
    write("y/a.txt", "2")
    assert load_paths(["x/a.txt", "y/a.txt"]).context == {"x/a.txt": "1", "y/a.txt": "2"}


def test_a_file_named_twice_is_read_once(write):
    write("a.txt", "1")
    assert load_paths(["a.txt", "./a.txt"]).context == "1"


def test_a_directory_is_a_dict_by_relative_path_without_hidden_and_binary_files(write):
    write("src/b.py", "b = 1")
    write("src/a/c.py", "c = 1")
    write("src/.git/config", "secret")
    write("src/.env", "secret")
    write("src/logo.png", b"\x89PNG\r\n\x1a\n\0\0")
    write("src/data.json", '{"stays": "text"}')
    loaded = load_paths(["src"])
    assert loaded.context == {"a/c.py": "c = 1", "b.py": "b = 1", "data.json": '{"stays": "text"}'}
    assert loaded.files == {}
    assert loaded.notes == ("src: skipped 1 binary or unreadable files (logo.png)",)


def test_a_directory_beside_others_gives_its_name_to_its_files(write):
    write("src/a.py", "1")
    write("note.txt", "2")
    assert load_paths(["src/", "note.txt"]).context == {"src/a.py": "1", "note.txt": "2"}


def test_a_broken_pdf_in_a_directory_is_skipped_with_its_reason(write):
    write("papers/good.pdf", pdf([51]))
    write("papers/bad.pdf", b"%PDF-1.7 nothing")
    loaded = load_paths(["papers"])
    assert list(loaded.context) == ["good.pdf"]
    assert any("bad.pdf: broken PDF" in note for note in loaded.notes)


def test_a_loop_of_links_ends(write, tmp_path):
    write("src/a.py", "1")
    (tmp_path / "src/again").symlink_to(tmp_path / "src", target_is_directory=True)
    assert load_paths(["src"]).context == {"a.py": "1"}


@pytest.mark.parametrize("stream", [io.BytesIO(b"piped \xc3\xa4"), io.StringIO("piped ä")])
def test_standard_input_is_read_where_a_dash_stands(stream):
    loaded = load_paths(["-"], stdin=stream)
    assert (loaded.context, loaded.files) == ("piped ä", {})


def test_standard_input_beside_files_is_called_stdin(write):
    write("a.txt", "1")
    assert load_paths(["-", "a.txt"], stdin=io.BytesIO(b"2")).context == {"stdin": "2", "a.txt": "1"}


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("a.json", '{"k": [1, 2]}', {"k": [1, 2]}),
        ("a.json", "[1, 2]", [1, 2]),
        ("a.json", '"only text"', '"only text"'),
        ("a.jsonl", '{"k": 1}\n\n{"k": 2}\n', [{"k": 1}, {"k": 2}]),
    ],
)
def test_json_is_given_as_its_value(write, name, text, value):
    assert load_paths([write(name, text)]).context == value


def test_broken_json_is_given_as_text_with_a_note(write):
    loaded = load_paths([write("a.json", "{broken")])
    assert loaded.context == "{broken"
    assert "a.json: not valid JSON" in loaded.notes[0]


def test_gzip_is_unpacked(write):
    assert load_paths([write("a.txt.gz", gzip.compress(b"packed"))]).context == "packed"
    assert load_paths([write("a.jsonl.gz", gzip.compress(b'{"k": 1}\n'))]).context == [{"k": 1}]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_a_byte_order_mark_tells_the_encoding(write, encoding):
    loaded = load_paths([write("a.txt", "Zürich 漢字".encode(encoding))])
    assert loaded.context == "Zürich 漢字"
    assert loaded.notes == ()


def test_latin_1_is_read_and_said(write):
    loaded = load_paths([write("a.txt", "Zürich".encode("latin-1"))])
    assert loaded.context == "Zürich"
    assert loaded.notes == ("a.txt: not utf-8 (byte 1); read as latin-1",)


def test_line_ends_are_as_python_reads_them(write):
    assert load_paths([write("a.txt", "one\r\ntwo\n")]).context == "one\ntwo\n"


def test_a_big_text_is_not_offered_as_a_file_too(write, monkeypatch):
    monkeypatch.setattr(inputs, "WORKSPACE_BYTES", 10)
    assert load_paths([write("a.txt", "x" * 11)]).files == {}


# Bad inputs: one line that names the value and the remedy


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("empty.txt", b"", "empty.txt is empty"),
        ("blank.txt", b" \n\t", "empty context: .*blank.txt has no text"),
        ("blank.json", b"[]", "empty context"),
        ("archive.zip", b"PK\x03\x04\0\0rest", "archive.zip is a ZIP archive; unpack it, not text"),
        ("report.docx", b"PK\x03\x04\0\0rest", "report.docx cannot be converted: .*; export it as text or PDF"),
        ("letter.docx", b"\xd0\xcf\x11\xe0\0\0", "an old Office document; export it"),
        ("noise.txt", bytes(range(1, 256)) * 50, "noise.txt is a binary file"),
        ("nul.txt", b"text\0text", "binary file; convert it to text first"),
        ("broken.pdf", b"%PDF-1.7\nnothing here", "broken.pdf: broken PDF"),
        ("broken.gz", b"not gzip", "broken gzip file"),
        ("cut.txt.gz", gzip.compress(b"packed" * 100, mtime=0)[:-12], "broken gzip file"),
        ("tree.tar.gz", gzip.compress(b"name\0\0\0", mtime=0), "binary file"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(write, name, content, message):
    path = write(name, content)
    with pytest.raises(InputError, match=message) as caught:
        load_paths([path])
    assert "\n" not in str(caught.value)


def test_a_truncated_pdf_is_refused(write):
    with pytest.raises(InputError, match=r"broken PDF|has no text"):
        load_paths([write("book.pdf", BOOK.read_bytes()[:20_000])])


def test_a_missing_file_is_refused():
    with pytest.raises(InputError, match=r"gone\.txt: no such file or directory; check the path"):
        load_paths(["gone.txt"])


def test_no_permission_is_said(write, monkeypatch):
    path = write("a.txt", "x")

    def denied(self):
        raise PermissionError(13, "Permission denied", str(self))

    monkeypatch.setattr(Path, "read_bytes", denied)
    with pytest.raises(InputError, match="permission denied; make it readable"):
        load_paths([path])


def test_no_paths_and_no_names_are_refused():
    with pytest.raises(InputError, match="no input: name at least one file"):
        load_paths([])
    for path in ["", "a\0b"]:
        with pytest.raises(InputError, match="is not a path"):
            load_paths([path])


def test_empty_standard_input_is_refused():
    with pytest.raises(InputError, match="standard input is empty"):
        load_paths(["-"], stdin=io.BytesIO(b""))


def test_a_directory_without_text_is_refused(write):
    write("photos/a.png", b"\x89PNG\0")
    with pytest.raises(
        InputError, match="no files with text in this directory; hidden, ignored and binary ones are not read"
    ):
        load_paths(["photos"])


def test_an_encrypted_pdf_is_refused_and_one_with_an_empty_password_is_read(write):
    with pytest.raises(InputError, match="encrypted; remove the encryption first"):
        load_paths([write("locked.pdf", pdf([51], password="secret"))])
    assert "wedges" in load_paths([write("open.pdf", pdf([51], password=""))]).context[0]


def test_a_scanned_pdf_is_refused_with_the_hint_of_ocr(write):
    with pytest.raises(InputError, match=r"no text on its 2 pages \(scanned\?\); run OCR"):
        load_paths([write("scan.pdf", pdf([None, None]))])


def test_a_gzip_bomb_is_refused(write, monkeypatch):
    monkeypatch.setattr(inputs, "UNPACKED_BYTES", 1 << 20)
    with pytest.raises(InputError, match="unpacks to more than 1 MB"):
        load_paths([write("bomb.gz", gzip.compress(b"0" * (1 << 21)))])


# Documents


def test_documents_become_records_that_json_can_hold():
    documents = [
        Document(page_content="text", metadata={"page": 1, "when": dt.date(2024, 5, 1), "path": Path("a")}),
        Document(page_content="more"),
    ]
    records = documents_to_records(documents)
    assert records == [
        {"page_content": "text", "metadata": {"page": 1, "when": "2024-05-01", "path": "a"}},
        {"page_content": "more", "metadata": {}},
    ]
    assert json.loads(json.dumps(records)) == records


def test_what_looks_like_a_document_is_one():
    assert is_document(SimpleNamespace(page_content="x", metadata={}))
    assert not is_document({"page_content": "x", "metadata": {}})
    assert not is_document("text")


def test_a_mixed_list_is_refused_with_the_position():
    with pytest.raises(InputError, match="item 1 is a str, not a Document"):
        documents_to_records([Document(page_content="x"), "y"])
