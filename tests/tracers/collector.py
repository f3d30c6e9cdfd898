"""A collector on the loopback interface: it takes what a tracer posts, and keeps it."""

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The batch form of LangSmith's ingestion is JSON, which a test can read.
BATCHES = {
    "use_multipart_endpoint": False,
    "size_limit": 100,
    "size_limit_bytes": 20_000_000,
    "scale_up_nthreads_limit": 1,
    "scale_up_qsize_trigger": 1000,
    "scale_down_nempty_trigger": 4,
}


class Collector:
    """What was posted, by path, and how many bytes it was."""

    def __init__(self):
        self.posted = []
        self.size = 0
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self):
                self._answer({"version": "0", "batch_ingest_config": BATCHES})

            def do_POST(self):
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers.get("Content-Encoding") == "gzip":
                    body = gzip.decompress(body)
                collector.size += len(body)
                collector.posted.append((self.path, body))
                self._answer({})

            def _answer(self, value):
                body = json.dumps(value).encode()
                self.send_response(200)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *arguments):
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def close(self):
        """Stop taking."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


@contextmanager
def collecting():
    """A collector for the length of a block."""
    collector = Collector()
    try:
        yield collector
    finally:
        collector.close()
