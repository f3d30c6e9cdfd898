"""A trajectory as the entries of a page."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Final

from rlm_adapters.traces.content import Text
from rlm_adapters.traces.tree import Call, Cell, Figures, Iteration, Run
from rlm_adapters.traces.values import string, text
from rlm_adapters.views.page.page import MAX_PART, Answer, Entry, Kind, Page, Part, Table, facts_of

_WAITED: Final = 0.05
"""Seconds in line before a call left that are worth a word."""
_SHOWN: Final = 300  # characters of a fact


def page_of(run: Run) -> Page:
    """The page of a run."""
    return _Maker(run).page()


class _Maker:
    """Makes the entries of a run and its children, in order.

    Args:
        run: the outermost one.
    """

    def __init__(self, run: Run) -> None:
        self._run = run
        self._began = run.start or 0.0
        self._entries: list[Entry] = []

    def page(self) -> Page:
        """The whole page."""
        run = self._run
        self._add_run(run, None)
        return Page(
            question=str(run.question),
            answer=_answer(run),
            facts=facts_of(_summary(run)),
            tables=[table for table in (_models(run), _inputs(run)) if table.rows],
            entries=self._entries,
            seconds=run.seconds or 0.0,
            foot=f"run {run.run_id}",
        )

    def _add(self, entry: Entry) -> int:
        self._entries.append(entry)
        return len(self._entries) - 1

    def _since(self, time: float | None) -> float:
        """Seconds since the start of the outermost run."""
        return 0.0 if time is None else max(0.0, time - self._began)

    def _span(self, start: float | None, seconds: float | None, *, ended: bool) -> dict[str, Any]:
        begins = self._since(start)
        return {"start": begins, "end": begins + (seconds or 0.0) if ended else None}

    def _add_run(self, run: Run, parent: int | None) -> None:
        sent: set[str] = set()
        for iteration in run.iterations:
            self._add(self._root(iteration, run, parent, sent))
            for cell in iteration.cells:
                self._add_cell(cell, run, parent)
        for note in run.warnings:
            at = self._since(note.time)
            self._add(Entry(kind="note", title=note.message, parent=parent, depth=run.depth, start=at, end=at))

    def _root(self, iteration: Iteration, run: Run, parent: int | None, sent: set[str]) -> Entry:
        name = {"last": "the best answer so far", "direct": "the answer, without a REPL"}.get(iteration.kind)
        title = name or f"iteration {iteration.number}"
        messages = [(string(one.get("role")), str(text(one.get("text")))) for one in iteration.messages]
        new = [(role, said) for role, said in messages if said not in sent]
        sent.update(said for _, said in new)
        parts = [Part(name=f"Sent ({role})", text=said) for role, said in new]
        parts += _parts(Reply=iteration.reply, Observation=iteration.observation)
        known = len(messages) - len(new)
        more = [("messages", f"{len(messages)}, of which {known} are shown before" if known else str(len(messages)))]
        return Entry(
            kind="root",
            title=title,
            parent=parent,
            depth=run.depth,
            status=iteration.status,
            facts=more if messages else [],
            parts=[*parts, *_troubles(iteration)],
            **_taken(iteration),
            **self._span(iteration.asked, iteration.seconds, ended=iteration.status != "running"),
        )

    def _add_cell(self, cell: Cell, run: Run, parent: int | None) -> None:
        place = self._add(
            Entry(
                kind="cell",
                title=_first_line(str(cell.code)),
                parent=parent,
                depth=run.depth,
                status=cell.status,
                facts=facts_of([
                    ("CPU", None if cell.cpu_seconds is None else _seconds(cell.cpu_seconds)),
                    ("calls", f"{len(cell.calls):,}" if cell.calls else None),
                    ("printed", f"{cell.output_chars:,} characters" if cell.output_chars else None),
                    ("worker", "was replaced" if cell.replaced else None),
                ]),
                parts=[
                    *_parts(Reasoning=cell.reasoning),
                    Part(name="Code", text=str(cell.code), code=True),
                    *_parts(Output=cell.output, Error=cell.error),
                ],
                **self._span(cell.start, cell.seconds, ended=cell.status != "running"),
            )
        )  # fmt: skip
        for call in cell.calls:
            self._add_call(call, run, place)

    def _add_call(self, call: Call, run: Run, parent: int) -> None:
        kind: Kind = "child" if call.child is not None else "tool" if call.kind == "tool" else "call"
        said = call.prompt.head if call.kind != "tool" else f"{call.function} {call.prompt.head}"
        waited = 0.0 if call.start is None or call.asked is None else max(0.0, call.start - call.asked)
        seconds = None if call.seconds is None else call.seconds - waited
        child = call.child
        facts = [
            ("function", call.function or None),
            ("waited", _seconds(waited) if waited > _WAITED else None),
            ("not answered", call.dropped),
            *([] if child is None else _summary(child)),
        ]
        texts = {"Arguments" if kind == "tool" else "Prompt": call.prompt, "Answer": call.answer}
        place = self._add(
            Entry(
                kind=kind,
                title=said or call.function or "call",
                parent=parent,
                depth=run.depth,
                status=call.status,
                ahead=call.ahead,
                cached=call.cached,
                facts=facts_of(facts),
                parts=[*_parts(**texts), *_troubles(call)],
                **({} if child is not None else _taken(call)),
                **self._span(call.start if waited else call.asked, seconds, ended=call.status != "running"),
            )
        )
        if child is not None:
            self._add_run(child, place)


def _taken(part: Figures) -> dict[str, Any]:
    """What a model call took; of a child run its calls tell that."""
    return {
        "model": part.model or None,
        "attempt": max(1, part.attempts),
        "input_tokens": part.input_tokens,
        "cached_tokens": part.cached_tokens,
        "output_tokens": part.output_tokens,
        "cost": part.cost,
    }


def _troubles(part: Figures) -> list[Part]:
    """What went wrong with a call."""
    told = {"Error": part.error or "", "Retries": "\n".join(part.retries), "Not used": "\n".join(part.repairs)}
    return [Part(name=name, text=text) for name, text in told.items() if text]


def _parts(**texts: Text | None) -> list[Part]:
    """The texts that are there, by name."""
    return [
        Part(name=name, text=str(one), chars=one.chars) for name, one in texts.items() if one is not None and one.chars
    ]


def _answer(run: Run) -> Answer:
    if run.status == "running":
        return Answer(title="Not finished", text="The run had not ended when the trace ended.", good=False)
    if run.answer is None:
        return Answer(title=f"No answer ({run.finish_reason})", text=run.error or "", good=False)
    said = run.answer if isinstance(run.answer, str) else json.dumps(run.answer, ensure_ascii=False, indent=2)
    good = run.finish_reason in ("submitted", "text", "direct")
    return Answer(title=f"Answer ({run.finish_reason})", text=said[:MAX_PART], good=good)


def _summary(run: Run) -> Iterator[tuple[str, str | None]]:
    """What the head of a page says of a run, and the details of a child."""
    total = run.totals()
    yield "time", None if run.seconds is None else _seconds(run.seconds)
    yield "iterations", f"{sum(one.kind != 'last' for one in run.iterations):,}"
    yield "sub-calls", f"{total.calls:,}" if total.calls else None
    yield "child runs", f"{total.children:,}" if total.children else None
    yield "tools", f"{total.tools:,}" if total.tools else None
    yield "failed", f"{total.failed:,}" if total.failed else None
    yield "retries", f"{total.retries:,}" if total.retries else None
    given = total.input_tokens or run.usage.get("input_tokens") or 0
    made = total.output_tokens or run.usage.get("output_tokens") or 0
    cached = f" ({total.cached_tokens:,} cached)" if total.cached_tokens else ""
    yield "tokens", f"{given:,}{cached} in, {made:,} out" if given or made else None
    yield "cost", _money(total.cost) if given or made else None
    yield "ended by", run.finish_reason if run.limit is None else f"the limit {run.limit}"
    yield "error", (run.error or "")[:_SHOWN] or None
    yield "limits", ", ".join(f"{name}={value}" for name, value in run.limits.items())[:_SHOWN] or None


def _models(run: Run) -> Table:
    heads = ["model", "calls", "failed", "retries", "input", "cached", "output", "cost"]
    return Table(
        heads=heads,
        rows=[
            [name, *(f"{number:,}" for number in (
                one.root_calls + one.calls, one.failed, one.retries, one.input_tokens, one.cached_tokens,
                one.output_tokens,
            )), _money(one.cost)]
            for name, one in sorted(run.by_model().items())
        ],
    )  # fmt: skip


def _inputs(run: Run) -> Table:
    rows = [
        [
            string(one.get("name")),
            string(one.get("type")),
            f"{one['size']:,}" if isinstance(one.get("size"), int) else "",
        ]
        for one in run.inputs
    ]
    return Table(heads=["input", "type", "size"], rows=rows)


def _first_line(code: str) -> str:
    lines = [line.strip() for line in code.splitlines() if line.strip()]
    return next((line for line in lines if not line.startswith("#")), lines[0] if lines else "an empty cell")


def _seconds(value: float) -> str:
    return f"{value * 1000:.0f} ms" if value < 1 else f"{value:.1f} s"


def _money(cost: float | None) -> str:
    return "unknown" if cost is None else f"${cost:.4f}"
