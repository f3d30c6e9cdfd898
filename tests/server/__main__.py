"""Serve the scripts of a module in a process of its own: ``python -m tests.server package.module:function``.

The function receives the :class:`ModelServer` and gives it its scripts. Prints the base URL and serves until
standard input is closed.
"""

import importlib
import sys

from tests.server.server import ModelServer

module, _, function = sys.argv[1].partition(":")
with ModelServer() as server:
    getattr(importlib.import_module(module), function)(server)
    print(server.url, flush=True)
    sys.stdin.read()
