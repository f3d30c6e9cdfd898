"""Addresses of the web: fetched where a person gives them, bounded, and never out of a text."""

import http.server
import socket
import threading
from urllib.parse import urlsplit

import pytest

from rlm_adapters import URL, InputError, create_rlm_graph
from rlm_adapters.values import urls
from rlm_adapters.values.inputs import load_paths
from rlm_adapters.values.urls import fetch, is_url
from tests.server import cell
from tests.values.office import docx

PAGES = {
    "/page": ("text/html; charset=latin-1", "<h1>Caf\xe9</h1><p>open</p>".encode("latin-1")),
    "/a/report.docx": ("application/octet-stream", docx("the report")),
    "/data.json": ("application/json", b'{"n": 1}'),
    "/plain.txt": ("text/plain", b"plain words"),
    "/big": ("text/plain", b"x" * 5_000),
    "/": ("text/html", b"<p>front</p>"),
}


@pytest.fixture
def site():
    asked = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            path = urlsplit(self.path).path
            asked.append(path)
            if path.startswith("/to/"):
                self.send_response(302)
                self.send_header("location", self.path.removeprefix("/to/"))
                self.end_headers()
            elif path == "/loop":
                self.send_response(302)
                self.send_header("location", "/loop")
                self.end_headers()
            elif path not in PAGES:
                self.send_error(404)
            else:
                kind, data = PAGES[path]
                self.send_response(200)
                self.send_header("content-type", kind)
                self.end_headers()
                self.wfile.write(data)

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.address = f"http://127.0.0.1:{server.server_port}"
    server.asked = asked
    yield server
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("/page", "# Café\n\nopen"),
        ("/a/report.docx", "the report"),
        ("/data.json", {"n": 1}),
        ("/plain.txt", "plain words"),
        ("/", "front"),
        ("/to//page", "# Café\n\nopen"),
    ],
)
def test_an_address_is_read_as_a_file_would_be(site, path, value):
    context = load_paths([URL(site.address + path)]).context
    assert (context.strip() if isinstance(context, str) else context) == value


def test_several_addresses_and_files_have_names(site, tmp_path):
    (tmp_path / "a.txt").write_text("a")
    loaded = load_paths([URL(f"{site.address}/plain.txt"), tmp_path / "a.txt", URL(f"{site.address}/page")])
    assert list(loaded.context) == ["plain.txt", "a.txt", "page.html"]


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("/gone", "the server answers 404; check the address"),
        ("/loop", "redirects more than 5 times"),
        ("/to/file:///etc/passwd", "is not a web address"),
        ("/big", r"larger than 1,000 bytes: give URL\(..., max_bytes="),
    ],
)
def test_what_cannot_be_had_is_refused_in_one_line(site, path, message):
    with pytest.raises(InputError, match=message) as caught:
        fetch(URL(site.address + path, max_bytes=1_000))
    assert "\n" not in str(caught.value)


def test_a_server_that_is_not_there(site):
    site.shutdown()
    site.server_close()
    with pytest.raises(InputError, match="cannot be fetched"):
        fetch(URL(site.address))


@pytest.mark.parametrize(
    "address", ["", "file:///etc/passwd", "/etc/passwd", "ftp://x.org/a", "http://", "http://[", 5]
)
def test_what_is_no_address_of_the_web_is_refused_at_once(address):
    with pytest.raises(InputError, match=r"not a URL|not a web address"):
        URL(address)


def test_a_public_address_may_not_lead_into_the_local_network(site, monkeypatch):
    monkeypatch.setattr(urls, "_is_public", lambda host: host == "127.0.0.1")
    for inside in ("localhost", "169.254.169.254", "10.0.0.1"):
        with pytest.raises(InputError, match=f"redirects to {inside}, which is not a public address"):
            fetch(URL(f"{site.address}/to/http://{inside}:{site.server_port}/page"))
    assert site.asked.count("/page") == 0


@pytest.mark.parametrize(
    ("found", "public"),
    [
        (["93.184.216.34"], True),
        (["93.184.216.34", "10.0.0.1"], False),
        (["127.0.0.1"], False),
        (["169.254.169.254"], False),
        (["::1"], False),
        (["fe80::1%eth0"], False),
        (["2606:2800:220:1::1"], True),
    ],
)
def test_which_addresses_are_public(monkeypatch, found, public):
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, port: [(0, 0, 0, "", (one, 0)) for one in found])
    assert urls._is_public("host") is public


def test_a_str_is_never_fetched(site, model_server, chat, sandbox):
    model_server.script("root", lambda messages, request: cell("SUBMIT(context)"))
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    for value in (f"{site.address}/page", [f"{site.address}/page"], {"address": f"{site.address}/page"}):
        assert graph.invoke({"query": "q", "context": value})["answer"] == value
    with pytest.raises(InputError, match="no such file"):
        load_paths([f"{site.address}/page"])
    assert site.asked == []


def test_an_address_is_the_context_of_a_graph(site, model_server, chat, sandbox):
    model_server.script("root", [cell("SUBMIT(context.strip())")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    assert graph.invoke({"query": "q", "context": URL(f"{site.address}/page")})["answer"] == "# Café\n\nopen"


def test_what_the_command_line_takes_for_an_address():
    assert is_url("https://x.org/a")
    assert is_url("HTTP://x.org")
    assert not is_url("file:///x")
    assert not is_url("x.org")
    assert not is_url("./https:/x")
