"""A run in a notebook while it goes on."""

from __future__ import annotations

import html
import logging
import queue
import secrets
import threading
import time
from typing import Final

from rlm_adapters.events import Event
from rlm_adapters.traces.build import Builder
from rlm_adapters.traces.outline import outline_of
from rlm_adapters.traces.trajectory import Trajectory
from rlm_adapters.views.outline import outline_html, outline_text

_log: Final = logging.getLogger(__name__)

_SECONDS: Final = 0.5
"""Between two updates."""
_SHARE: Final = 20
"""Updates take one part in so many of the time at most."""
_MOST_RUNS: Final = 5
"""Shown at once, when a graph runs several times at the same time."""
_KEPT_RUNS: Final = 50
"""Runs that are kept at most while some of them have not ended, as those that wait for a tool."""
_IDLE_SECONDS: Final = 5.0
"""After which the thread ends, until the next event."""
_WAIT_SECONDS: Final = 10.0
"""For the last update, before a run returns."""

_Bundle = dict[str, str]


class NotebookView:
    """Shows runs in a notebook while they run. Give it as ``on_event``, and put it on the last line of a cell.

        view = NotebookView()
        graph = create_rlm_graph("openai:gpt-5", "openai:gpt-5-mini", on_event=view)
        view

    It shows itself when the first run begins, if you have not. The output is brought up to date in place, by a thread
    that runs do not wait for; at the end it is what a `Trajectory` shows. Outside of a notebook it shows nothing, and
    needs no IPython.

    Args:
        seconds: between two updates, at least.
    """

    def __init__(self, *, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._id = f"rlm-{secrets.token_hex(8)}"
        self._displayed = False
        self._lock = threading.Lock()
        self._builder: Builder[Trajectory] = Builder(Trajectory)
        self._open: set[str] = set()
        self._given: queue.SimpleQueue[Event | threading.Event] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    @property
    def trajectory(self) -> Trajectory | None:
        """What is known of the run that began last; None: none has begun."""
        runs = self._builder.outermost
        return runs[-1] if runs else None

    def __call__(self, event: Event) -> None:
        """Take an event; it is shown soon."""
        self._put(event)

    def begin(self) -> None:
        """Show itself, if that is still to be done: where a run begins is the cell that it belongs to."""
        if not self._displayed:
            self._send(update=False)

    def settle(self) -> None:
        """Wait until all events are shown; blocks."""
        shown = threading.Event()
        self._put(shown)
        shown.wait(_WAIT_SECONDS)

    def _ipython_display_(self) -> None:
        self._send(update=False)

    # -- the thread

    def _put(self, given: Event | threading.Event) -> None:
        with self._lock:
            self._given.put(given)
            if self._thread is None:
                self._thread = threading.Thread(target=self._show_all, name="rlm-notebook", daemon=True)
                self._thread.start()

    def _show_all(self) -> None:
        """Take what is given and show it, until nothing has come for a while."""
        due = 0.0
        changed = False
        while True:
            waiting = None
            try:
                given = self._given.get(timeout=max(0.001, due - time.monotonic()) if changed else _IDLE_SECONDS)
            except queue.Empty:
                if not changed:
                    with self._lock:
                        if self._given.empty():
                            self._thread = None
                            return
                    continue
            else:
                if isinstance(given, Event):
                    self._add(given)
                    changed = True
                    if time.monotonic() < due:
                        continue
                else:
                    waiting = given
            began = time.monotonic()
            self._send(update=self._displayed)
            changed = False
            took = time.monotonic() - began
            due = began + took + max(self._seconds, _SHARE * took)
            if waiting is not None:
                waiting.set()

    def _add(self, event: Event) -> None:
        known = self._builder.outermost
        if event.parent_run_id is None:
            new = event.run_id not in {one.run_id for one in known}
            if new and (not self._open or len(known) >= _KEPT_RUNS):
                self._builder = Builder(Trajectory)  # the runs before have ended: they need not be kept
                self._open.clear()
            (self._open.discard if event.type == "run_finished" else self._open.add)(event.run_id)
        try:
            self._builder.add(event)
        except Exception:  # noqa: BLE001 - what cannot be shown does not end a run
            _log.warning("an event could not be shown in the notebook", exc_info=True)

    # -- the output

    def _send(self, *, update: bool) -> None:
        """Show, or bring what is shown up to date."""
        try:
            from IPython.core.getipython import get_ipython  # noqa: PLC0415 - needed in a notebook only
            from IPython.display import display  # noqa: PLC0415
        except ImportError:
            return
        if not hasattr(get_ipython(), "kernel"):
            return
        self._displayed = True
        try:
            display(self._bundle(), raw=True, display_id=self._id, update=update)
        except Exception:  # noqa: BLE001 - what cannot be shown does not end a run
            _log.warning("a run could not be shown in the notebook", exc_info=True)

    def _bundle(self) -> _Bundle:
        """What is shown now, by media type."""
        runs = self._builder.outermost[-_MOST_RUNS:]
        if not runs:
            waiting = "RLM: no run has begun"
            return {"text/html": f"<div>{html.escape(waiting)}</div>", "text/plain": waiting}
        shown = [outline_of(run) for run in runs]
        return {
            "text/html": "".join(map(outline_html, shown)),
            "text/plain": "\n\n".join(map(outline_text, shown)),
        }
