"""Servers that serve the shipped graphs, each as its own process in a folder of its own.

`LangGraphDev` is LangGraph's own server, `Aegra` the open one on PostgreSQL. Both run with their default options.
"""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.request
from abc import ABC, abstractmethod
from pathlib import Path

from langgraph_sdk import get_client

ROOT = Path(__file__).parents[2]
START_SECONDS = 120


def free_port():
    """A TCP port of the loopback interface that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Served(ABC):
    """A server's process, started at once; the folder keeps the threads."""

    def __init__(self, program, folder, model_url):
        self.folder = folder
        self.program = program
        self.port = free_port()
        self._model_url = model_url
        shutil.copytree(ROOT / "graphs", folder / "graphs", ignore=shutil.ignore_patterns("__pycache__"))
        shutil.copy(ROOT / "langgraph.json", folder)
        self.start()

    @property
    @abstractmethod
    def arguments(self):
        """What follows the program on the command line."""

    @property
    def environment(self):
        """What the server's process finds in its environment."""
        return os.environ | {
            "OPENAI_API_KEY": "the-key-of-the-server",
            "OPENAI_BASE_URL": self._model_url,
            "RLM_MODEL": "openai:root",
            "RLM_SUB_MODEL": "openai:sub",
            "RLM_MODELS": "fast=openai:fast",
            "RLM_CONTENT_STORE": str(self.folder / "content"),
            "LANGSMITH_TRACING": "false",
        }

    def start(self):
        """Start the process and wait until it answers."""
        self._log = (self.folder / "log").open("a")
        self.process = subprocess.Popen(
            [self.program, *self.arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        for _ in range(START_SECONDS * 4):
            assert self.process.poll() is None, self.log[-3000:]
            try:
                urllib.request.urlopen(f"{self.url}{self.health}", timeout=1).read()
            except OSError:
                time.sleep(0.25)
            else:
                return
        raise AssertionError(self.log[-3000:])

    def stop(self):
        """End the process as an operator does; kill it when it does not end."""
        os.killpg(self.process.pid, signal.SIGINT)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.kill()
        self._log.close()

    def kill(self):
        """End the process as a machine that is lost does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    health = "/ok"

    @property
    def log(self):
        """What the server has written."""
        return (self.folder / "log").read_text()

    @property
    def url(self):
        """The server's address."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def client(self):
        """LangGraph's SDK, over HTTP."""
        return get_client(url=self.url)


class LangGraphDev(Served):
    """LangGraph's own server; its blocking detection ends a run that blocks."""

    @property
    def arguments(self):
        """Its defaults, without a browser and without watching files."""
        return ["dev", "--no-browser", "--no-reload", "--host", "127.0.0.1", "--port", str(self.port)]


class Aegra(Served):
    """The open server Aegra, on a PostgreSQL that the caller has started.

    Replicas have the same database and the same ``content``; by default the content is in the server's folder.
    """

    health = "/health"

    def __init__(self, program, folder, model_url, database_url, content=None):
        self._database_url = database_url
        self._content = content or folder / "content"
        super().__init__(program, folder, model_url)

    @property
    def arguments(self):
        """Its defaults."""
        return ["serve", "--host", "127.0.0.1", "--port", str(self.port)]

    @property
    def environment(self):
        """With the database."""
        return super().environment | {"DATABASE_URL": self._database_url, "RLM_CONTENT_STORE": str(self._content)}
