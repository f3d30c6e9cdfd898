"""One process of a run: it begins the run or goes on with it, and may be told to kill itself at a chosen moment."""

import asyncio
import json
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from langchain_core.messages import message_to_dict, messages_from_dict
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from langgraph.types import Command, interrupt

from rlm_adapters import ChatRLM, ContentStore, Limits, create_rlm_graph
from rlm_adapters.graph.fencing import Fence
from tests.chaos import processes, savers, script

PHASES = ("root", "cell", "fan-out", "child", "tool", "tool's end", "commit", "after commit", "approval", "any")
TARGETS = ("host", "host", "host", "host", "worker", "zygote", "holder", "lease")
"""``lease``: the session of PostgreSQL that keeps the thread's lease; the run takes it again and goes on."""


@dataclass(frozen=True)
class Aim:
    """When to kill what.

    Attributes:
        phase: one of `PHASES`; ``any`` is a moment of the clock.
        nth: at its so manieth beginning.
        delay: seconds after that.
        target: one of `TARGETS`.
    """

    phase: str
    nth: int
    delay: float
    target: str

    @classmethod
    def random(cls, dice: random.Random, phases: tuple[str, ...] = PHASES) -> "Aim":
        phase = dice.choice(phases)
        most = {"commit": 30, "after commit": 30, "root": 4, "cell": 4, "fan-out": 3}.get(phase, 1)
        delay = dice.uniform(0.05, 2.0) if phase == "any" else dice.choice((0.0, dice.uniform(0, 0.06)))
        return cls(phase, dice.randint(1, most), delay, dice.choice(TARGETS))


@dataclass(frozen=True)
class Job:
    """What a process is to do.

    Attributes:
        tag: names the run; its thread too.
        saver: location of the saver.
        folder: of the run: the store, what the tool wrote, the result.
        url: of the model server.
        form: ``sync`` or ``async``.
        durability: of LangGraph.
        parallel: ``ahead`` or ``off``.
        aims: when to kill what.
        messages: of a ``ChatRLM``'s client so far; None: the graph itself.
    """

    tag: str
    saver: str
    folder: str
    url: str
    form: str = "sync"
    durability: str = "sync"
    parallel: str = "ahead"
    aims: tuple[Aim, ...] = ()
    messages: list[dict[str, Any]] | None = None

    @classmethod
    def from_json(cls, text: str) -> "Job":
        data = json.loads(text)
        return cls(**{**data, "aims": tuple(Aim(**aim) for aim in data["aims"])})

    @property
    def result(self) -> Path:
        return Path(self.folder) / "result.json"


@dataclass
class Killer:
    """Kills this process, or one of its sandbox's, when the moment has come."""

    job: Job
    seen: dict[str, int] = field(default_factory=dict)

    def at(self, phase: str) -> None:
        """A phase begins."""
        self.seen[phase] = self.seen.get(phase, 0) + 1
        for aim in self.job.aims:
            if (aim.phase, aim.nth) != (phase, self.seen[phase]):
                continue
            if aim.delay == 0 and aim.target in ("host", "lease"):
                self._kill(aim)
            threading.Thread(target=self._later, args=(aim,), daemon=True).start()

    def _later(self, aim: Aim) -> None:
        time.sleep(aim.delay)
        self._kill(aim)

    def _kill(self, aim: Aim) -> None:
        if aim.target == "lease":
            if savers.end_lease(self.job.saver):
                self._note(aim)
            return
        pid = os.getpid() if aim.target == "host" else processes.sandbox_process(aim.target)
        if pid is not None:
            self._note(aim)
            with suppress(ProcessLookupError):  # it has just ended
                os.kill(pid, signal.SIGKILL)

    def _note(self, aim: Aim) -> None:
        (Path(self.job.folder) / f"killed-{time.time_ns()}").write_text(f"{aim.target} {aim.phase}")


def run(job: Job) -> None:
    """Do the job; what came of it is in its result file."""
    killer = Killer(job)
    killer.at("any")
    work = _chat if job.messages is not None else _graph
    result = work(job, killer)
    part = job.result.with_suffix(".part")
    part.write_text(json.dumps(result))
    part.replace(job.result)


def _models(job: Job) -> tuple[ChatOpenAI, ChatOpenAI]:
    root, sub = (ChatOpenAI(model=name, base_url=job.url, api_key="test", max_retries=0) for name in ("root", "sub"))
    return root, sub


def _graph(job: Job, killer: Killer) -> dict[str, Any]:
    def note(text: str) -> str:
        """Note a text."""
        killer.at("tool")
        with (Path(job.folder) / "tool").open("a") as file:
            file.write(text + "\n")
        killer.at("tool's end")
        return f"noted {text}"

    def approve(what: str) -> str:
        """Ask a person."""
        return str(interrupt(what))

    def make(saver: Any) -> Any:
        root, sub = _models(job)
        return create_rlm_graph(
            root,
            sub,
            tools=[note, approve],
            limits=Limits(max_depth=2, max_calls=500),
            checkpointer=saver,
            store=ContentStore(Path(job.folder) / "store"),
            parallel=job.parallel,  # type: ignore[arg-type]
            on_event=_teller(killer),
        )

    config: Any = {"configurable": {"thread_id": job.tag}}
    options: Any = {"durability": job.durability}

    def given(state: Any) -> Any:
        if state.interrupts:
            return Command(resume="yes")
        if state.values:
            return None
        return {"query": f"Do it. TAG={job.tag}", "context": script.CONTEXT}

    def told(result: dict[str, Any], state: dict[str, Any]) -> dict[str, Any]:
        if result.get("__interrupt__"):
            killer.at("approval")
            return {"suspended": True}
        seen = [str(turn["observation"])[:600] for turn in state.get("turns", ())]
        return {
            **{key: result[key] for key in ("answer", "finish_reason")},
            "calls": result["usage"].get("calls"),
            "errors": [one for one in seen if "Error" in one],
        }

    if job.form == "sync":
        with savers.opened(job.saver) as saver:
            _watch(saver, killer)
            with closing(make(saver)) as graph:
                result = graph.invoke(given(graph.get_state(config)), config, **options)
                return told(result, graph.get_state(config).values)

    async def work() -> dict[str, Any]:
        async with savers.aopened(job.saver) as saver:
            _watch(saver, killer)
            with closing(make(saver)) as graph:
                result = await graph.ainvoke(given(await graph.aget_state(config)), config, **options)
                return told(result, (await graph.aget_state(config)).values)

    return asyncio.run(work())


def _chat(job: Job, killer: Killer) -> dict[str, Any]:
    @tool
    def weather(city: str) -> str:
        """Weather of a city."""
        raise AssertionError("the client runs the tool")

    def ready(saver: Any) -> tuple[ChatRLM, Any]:
        root, sub = _models(job)
        store = ContentStore(Path(job.folder) / "store")
        model = ChatRLM(
            model=root, sub_model=sub, checkpointer=saver, store=store, on_event=_teller(killer), direct_below=0
        )
        return model, model.bind_tools([weather])

    messages = messages_from_dict(job.messages or [])
    if job.form == "sync":
        with savers.opened(job.saver) as saver:
            _watch(saver, killer)
            model, bound = ready(saver)
            with closing(model):
                return _replied(bound.invoke(messages), killer)

    async def work() -> dict[str, Any]:
        async with savers.aopened(job.saver) as saver:
            _watch(saver, killer)
            model, bound = ready(saver)
            with closing(model):
                return _replied(await bound.ainvoke(messages), killer)

    return asyncio.run(work())


def _replied(reply: Any, killer: Killer) -> dict[str, Any]:
    killer.at("approval")  # it may wait for a tool, and nobody has seen the reply yet
    return {"message": message_to_dict(reply)}


def _teller(killer: Killer) -> Callable[[Any], None]:
    """A listener that tells the killer of phases."""

    def tell(event: Any) -> None:
        calls = {"rlm_query": "child", "llm_query": "fan-out"}.get(event.data.get("function", ""), "")
        phase = {"iteration_started": "root", "code": "cell", "calls_started": calls}.get(event.type)
        if phase:
            killer.at(phase)

    return tell


def _watch(saver: Any, killer: Killer) -> None:
    """Tell the killer of each commit, and see to it that none goes round the fence.

    By a class of its own, not by attributes of the object: a call's own saver is a copy of it whose class is made of
    its class (`rlm_adapters.graph.fencing`).
    """
    kind: Any = type(saver)
    fenced = killer.job.saver.startswith("postgresql:")

    @contextmanager
    def commit(used: Any) -> Iterator[None]:
        assert not fenced or isinstance(getattr(used, "fence", None), Fence), "a write goes round the fence"
        killer.at("commit")
        yield
        killer.at("after commit")

    class Watched(kind):
        def put(self, *args: Any, **kwargs: Any) -> Any:
            with commit(self):
                return super().put(*args, **kwargs)

        def put_writes(self, *args: Any, **kwargs: Any) -> Any:
            with commit(self):
                return super().put_writes(*args, **kwargs)

        async def aput(self, *args: Any, **kwargs: Any) -> Any:
            with commit(self):
                return await super().aput(*args, **kwargs)

        async def aput_writes(self, *args: Any, **kwargs: Any) -> Any:
            with commit(self):
                return await super().aput_writes(*args, **kwargs)

    saver.__class__ = Watched
