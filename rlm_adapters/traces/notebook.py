"""`NotebookView`: show a run in a notebook while it runs."""

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
"""Seconds between two updates."""
_SHARE: Final = 20
"""Updates take at most 1/20 of the time."""
_MOST_RUNS: Final = 5
"""Most runs that are shown together, if a graph runs several times at once."""
_KEPT_RUNS: Final = 50
"""Most runs that are kept while some of them have not ended, for example because they wait for a tool."""
_IDLE_SECONDS: Final = 5.0
"""The thread ends after this time without events. The next event starts it again."""
_WAIT_SECONDS: Final = 10.0
"""Longest wait for the last update before a run returns."""

_Bundle = dict[str, str]


class NotebookView:
    """Shows runs in a notebook while they run. Give it as ``on_event``, and write it on the last line of a cell.

        view = NotebookView()
        graph = create_rlm_graph("openai:gpt-5", "openai:gpt-5-mini", on_event=view)
        view

    If you do not, it is shown in the cell that starts the first run. A separate thread updates the output in place;
    runs do not wait for it. At the end the output is the same as that of a `Trajectory`. Outside a notebook it shows
    nothing, and needs no IPython.

    Args:
        seconds: shortest time between two updates.
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
        """The run that began last, as far as it is known; None: no run has begun."""
        runs = self._builder.outermost
        return runs[-1] if runs else None

    def __call__(self, event: Event) -> None:
        """Add an event. It is shown a little later."""
        self._put(event)

    def begin(self) -> None:
        """Show the view in the cell that starts the run, if it is not shown yet."""
        if not self._displayed:
            self._send(update=False)

    def settle(self) -> None:
        """Wait until all events are shown. Blocks."""
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
        """Show the events that come, until none has come for a while."""
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
                self._builder = Builder(Trajectory)  # the earlier runs have ended and are not needed
                self._open.clear()
            (self._open.discard if event.type == "run_finished" else self._open.add)(event.run_id)
        try:
            self._builder.add(event)
        except Exception:  # noqa: BLE001 - what cannot be shown does not end a run
            _log.warning("an event could not be shown in the notebook", exc_info=True)

    # -- the output

    def _send(self, *, update: bool) -> None:
        """Show the output, or update it."""
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
        """The current output, by media type."""
        runs = self._builder.outermost[-_MOST_RUNS:]
        if not runs:
            waiting = "RLM: no run has begun"
            return {"text/html": f"<div>{html.escape(waiting)}</div>", "text/plain": waiting}
        shown = [outline_of(run) for run in runs]
        return {
            "text/html": "".join(map(outline_html, shown)),
            "text/plain": "\n\n".join(map(outline_text, shown)),
        }
