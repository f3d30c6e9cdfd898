"""`RayProgram`: a DSPy program whose calls run on the nodes of a cluster, for Evaluate and for optimizers."""

from __future__ import annotations

import asyncio
import contextvars
import hashlib
import io
import itertools
import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from types import TracebackType
from typing import Any, Final, Self

import cloudpickle
import dspy
from dspy.dsp.utils.settings import main_thread_config, settings

from rlm_adapters.cluster.library import Library, LostError
from rlm_adapters.cluster.pool import MOST_LOSSES, Placement, Pool
from rlm_adapters.cluster.settings import actor_options, check_address, check_counts, check_seconds
from rlm_adapters.datasets.answers import Answer
from rlm_adapters.datasets.asking import JOB_BUDGET
from rlm_adapters.datasets.cluster.host import WAIT_SECONDS, Host
from rlm_adapters.datasets.cluster.job import RayJob
from rlm_adapters.datasets.cluster.ledger import LedgerLostError
from rlm_adapters.datasets.engines import Outcome
from rlm_adapters.datasets.rows import Row
from rlm_adapters.dspy.call import RESULT_FIELD
from rlm_adapters.dspy.module import RLM
from rlm_adapters.effects import Steps, adrive, drive, off_loop, wait_for_future
from rlm_adapters.errors import BudgetExceededError, InputError, RLMError, SandboxError
from rlm_adapters.models.limiter import Limiter
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.prompts.fields import FieldsSpec
from rlm_adapters.values.answers import to_plain

_MOST_PROGRAMS: Final = 8
"""Candidates of an optimizer that an actor keeps at hand."""
_NOT_ANSWERS: Final = frozenset({RESULT_FIELD, "trajectory", "final_reasoning"})


@dataclass(frozen=True, slots=True, kw_only=True)
class _Order:
    """A call of a program.

    Attributes:
        id: of the call: what the program says, and its inputs.
        digest: of ``program``.
        program: pickled.
        given: pickled: its inputs, and the caller's settings.
    """

    id: str
    digest: str
    program: bytes
    given: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class _Ran:
    """What became of it.

    Attributes:
        answer: for the file of answers.
        made: pickled: the prediction, and the trace with names of predictors; empty: there is none.
        failure: pickled, of the program; empty: there is none.
    """

    answer: Answer
    made: bytes = b""
    failure: bytes = b""


class ProgramHost(Host):
    """Runs calls of programs.

    Args:
        version: of the caller's package.
        job: the actor that keeps budget and answers.
        actors: that share what the program's limits allow of calls at once and a minute.
        threads: most calls at once of programs that have no ``aforward``.
    """

    def __init__(self, version: str, job: Any, actors: int, threads: int) -> None:
        super().__init__(version, job)
        self._actors = actors
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="rlm-program")
        self._programs: OrderedDict[str, Any] = OrderedDict()
        self._limiter: Limiter | None = None

    async def ask(self, name: str, order: _Order) -> _Ran:
        """Run a call.

        Args:
            name: of the place, and of the call at the job.
            order: the call.
        """
        run = _Run(await self._program(order), await asyncio.to_thread(cloudpickle.loads, order.given), self._threads)
        if self._limiter is None:
            self._limiter = Limiter.of(run.limits, share=self._actors)
        answer, failure = await self._asked(name, run, Row(order.id, {}, "a call"), self._limiter)
        await self._tell("keep", name, answer)
        return _Ran(answer=answer, made=run.made, failure=b"" if failure is None else _pickled_error(failure))

    async def _program(self, order: _Order) -> Any:
        if order.digest not in self._programs:
            program = await asyncio.to_thread(cloudpickle.loads, order.program)
            self._programs[order.digest] = program
            if len(self._programs) > _MOST_PROGRAMS:
                self._programs.popitem(last=False)
        self._programs.move_to_end(order.digest)
        return self._programs[order.digest]


class _Run:
    """One call on a node, as the engine of one row."""

    made = b""

    def __init__(self, program: Any, given: Mapping[str, Any], threads: ThreadPoolExecutor) -> None:
        self._program = program
        self._given = given
        self._threads = threads
        self.limits, self.prices = _terms(program)

    def describe(self) -> dict[str, Any]:
        return {}

    def check_row(self, row: Row) -> None:
        """It was checked by whoever made the call."""

    def check_prices(self, limits: Limits) -> None:
        """Likewise."""

    async def ask(self, row: Row) -> Outcome:  # noqa: ARG002 - an engine's
        trace: list[Any] = []
        with dspy.context(**self._given["settings"], trace=trace):
            if hasattr(self._program, "aforward"):
                prediction = await self._program.acall(**self._given["inputs"])
            else:
                call = partial(contextvars.copy_context().run, partial(self._program, **self._given["inputs"]))
                prediction = await asyncio.get_running_loop().run_in_executor(self._threads, call)
        names = {id(one): name for name, one in self._program.named_predictors()}
        named = [(names[id(one)], inputs, told) for one, inputs, told in trace if id(one) in names]
        self.made = await asyncio.to_thread(_pickled, (prediction, named), "what the program gives")
        told = getattr(prediction, RESULT_FIELD, None) or {}
        given = dict(prediction) if isinstance(prediction, dspy.Prediction) else {"answer": prediction}
        fields = {key: value for key, value in given.items() if key not in _NOT_ANSWERS}
        plain = await asyncio.to_thread(lambda: {key: to_plain(value) for key, value in fields.items()})
        return Outcome(plain, told.get("finish_reason", "submitted"), told.get("error"))


class RayProgram(dspy.Module):  # type: ignore[misc]  # dspy is not typed
    """A DSPy program whose calls run on the nodes of a Ray cluster. Give it to ``dspy.Evaluate``, GEPA and others.

        program = RayProgram(RLM("text -> count: int"), job=RayJob("scores.jsonl", max_cost=5.0))
        dspy.Evaluate(devset=devset, metric=metric, num_threads=64)(program)

    A call sends the program, its inputs, ``dspy.settings.lm`` and ``.adapter`` to a node, and brings back the
    prediction and its trace. Metric and optimizer stay here. Copies that optimizers make share the actors; ``program``
    of what they return is the program that they have tuned.

    Args:
        program: an `RLM`, or a module that has some. It must pickle: functions and tools too.
        job: budget and answers. The budget counts the calls of `RLM`s; other predictors' calls it does not see. A call
            whose answer is there already is not made again, but where its trace is asked for.
        address: as of `RaySandbox`, as are all that follow.
        actors: how many.
        calls_per_actor: most calls in an actor at once.
        num_cpus: that each actor reserves.
        memory: bytes that each actor reserves.
        resources: of the cluster's own kinds, by name.
        scheduling_strategy: as Ray has it.
        runtime_env: as Ray has it.
        connect_seconds: in which the cluster must answer.
        start_seconds: in which a first actor must come to life.

    Raises:
        InputError: an argument makes no sense, or a part of the program cannot leave this process.
        MissingExtraError: Ray is not installed.
    """

    def __init__(
        self,
        program: Any,
        *,
        job: RayJob | None = None,
        address: str | None = None,
        actors: int | None = None,
        calls_per_actor: int = 64,
        num_cpus: float = 1.0,
        memory: int | None = None,
        resources: Mapping[str, float] | None = None,
        scheduling_strategy: Any = "SPREAD",
        runtime_env: Mapping[str, Any] | None = None,
        connect_seconds: float = 30.0,
        start_seconds: float = 120.0,
    ) -> None:
        super().__init__()
        if not isinstance(program, dspy.Module):
            raise InputError(f"program={program!r:.80}: give a DSPy module, such as RLM('text -> count: int')")
        for name, one in program.named_sub_modules(RLM):
            if stays := one.parts_of_this_process():
                raise InputError(
                    f"{', '.join(stays)} of {name.replace('self', 'program', 1)} cannot leave this process: make the "
                    "RLM without, the nodes give it a sandbox of their own"
                )
        check_address(address)
        check_counts(actors=actors, calls_per_actor=calls_per_actor)
        check_seconds(connect_seconds=connect_seconds, start_seconds=start_seconds)
        self.program = program
        placement = Placement(
            actors=actors,
            sessions_per_actor=calls_per_actor,
            options=actor_options(num_cpus, memory, resources, scheduling_strategy, runtime_env),
            start_seconds=start_seconds,
            wait_seconds=WAIT_SECONDS,
        )
        self._nodes = _Nodes(placement, job, address, connect_seconds)

    def forward(self, **inputs: Any) -> dspy.Prediction:
        """Run the program on a node.

        Args:
            **inputs: of the program.

        Raises:
            InputError: something cannot be sent.
            BudgetExceededError: the budget of the job is used.
            SandboxError: the cluster cannot be used.
            Exception: what the program raised.
        """
        return drive(self._steps(inputs))

    async def aforward(self, **inputs: Any) -> dspy.Prediction:
        """Async form of `forward`."""
        return await adrive(self._steps(inputs))

    def close(self) -> None:
        """End the actors. Blocks for a moment."""
        self._nodes.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _steps(self, inputs: Mapping[str, Any]) -> Steps[dspy.Prediction]:
        order = self._order(inputs)
        wants_trace = settings.trace is not main_thread_config["trace"]  # ``dspy.context(trace=[])`` of an optimizer
        ran = yield from self._nodes.run(order, self._begun, look=not wants_trace)
        answer = ran.answer
        if answer.error is not None and answer.error["kind"] == JOB_BUDGET:
            raise BudgetExceededError(answer.error["message"], limit="max_calls")
        if ran.failure:
            raise cloudpickle.loads(ran.failure)
        if not ran.made:
            return self._kept(answer)
        prediction, trace = cloudpickle.loads(ran.made)
        if settings.trace is not None:
            mine = dict(self.program.named_predictors())
            room = max(0, settings.max_trace_size - len(settings.trace))
            settings.trace.extend([(mine[name], given, told) for name, given, told in trace if name in mine][:room])
        return prediction

    def _order(self, inputs: Mapping[str, Any]) -> _Order:
        program = _pickled(self.program, "the program")
        sent = {name: settings.get(name) for name in ("lm", "adapter")}
        sent = {name: value for name, value in sent.items() if value is not None}
        given = _pickled({"inputs": dict(inputs), "settings": sent}, "an input, or the lm or adapter of dspy.settings,")
        state = json.dumps(self.program.dump_state(), sort_keys=True, default=str)
        try:
            said = json.dumps(inputs, sort_keys=True).encode()
        except (TypeError, ValueError):
            said = _pickled(dict(inputs), "an input")
        id_ = hashlib.sha256(state.encode("utf-8", "surrogatepass") + b"\0" + said).hexdigest()[:32]
        return _Order(id=id_, digest=hashlib.sha256(program).hexdigest(), program=program, given=given)

    def _begun(self) -> tuple[dict[str, Any], PriceTable]:
        """What the file of answers is asked (candidates of an optimizer stand in one file), and prices."""
        signature = getattr(self.program, "signature", None)
        asked = {
            "program": type(self.program).__name__,
            "signature": getattr(signature, "signature", None),
            "model": getattr(settings.lm, "model", None),
        }
        return asked, _terms(self.program)[1]

    def _kept(self, answer: Answer) -> dspy.Prediction:
        """The prediction of an earlier start, in the types of the signature if the program is an `RLM`."""
        if not isinstance(answer.answer, Mapping):
            said = answer.error["message"] if answer.error else "it has no answer"
            raise RLMError(f"this call failed in an earlier start ({said}): retry_failed=True of RayJob makes it again")
        fields = dict(answer.answer)
        if answer.error is None and isinstance(self.program, RLM):
            signature = self.program.signature
            fields = FieldsSpec.of_signature(signature, tuple(signature.output_fields)).typed(fields)
        error = None if answer.error is None else answer.error["message"]
        told = {"finish_reason": answer.finish_reason, "usage": dict(answer.usage), "error": error}
        return dspy.Prediction(**fields, **{RESULT_FIELD: told})


class _Nodes:
    """The actors of a program, which its copies share.

    Args:
        placement: of the actors.
        job: the caller's; None: one of its own.
        address: of the cluster.
        connect_seconds: in which it must answer.
    """

    _job: RayJob

    def __init__(self, placement: Placement, job: RayJob | None, address: str | None, connect_seconds: float) -> None:
        self._placement = placement
        self._given = job
        self._address = address
        self._connect_seconds = connect_seconds
        self._library = Library("RayProgram")
        self._lock = threading.Lock()
        self._pool: Pool | None = None
        self._names = itertools.count()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Nodes:
        return self

    def run(self, order: _Order, job: Callable[[], tuple[Mapping[str, Any], PriceTable]], *, look: bool) -> Steps[_Ran]:
        """Make a call, or find what became of it before.

        Args:
            order: the call.
            job: tells what all its calls have in common, and prices.
            look: for an answer that is there.

        Raises:
            SandboxError: the cluster cannot be used.
        """
        pool = self._pool or (yield off_loop(partial(self._begun, *job())))
        if look and (kept := (yield wait_for_future(self._job.ask("kept", order.id)))) is not None:
            return _Ran(answer=kept)
        for _ in range(MOST_LOSSES):
            seat = yield from pool.take()
            try:
                ran: _Ran = yield wait_for_future(pool.ask(seat, "ask", order))
            except (LostError, LedgerLostError):  # a node that dies may miss the job: ask for it from here
                pool.lost(seat.actor)
                yield wait_for_future(self._job.ask("finish", seat.name))
                continue
            finally:
                pool.leave(seat)
            return ran
        raise SandboxError(f"{MOST_LOSSES} nodes were lost one after the other while they ran this call")

    def close(self) -> None:
        """End them."""
        with self._lock:
            pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()
            if self._given is None:
                self._job.close()

    def _begun(self, asked: Mapping[str, Any], prices: PriceTable) -> Pool:
        with self._lock:
            if self._pool is None:
                self._library.connect(self._address, self._connect_seconds)
                self._job = self._given or RayJob(address=self._address, connect_seconds=self._connect_seconds)
                self._job.ask("begin", asked, prices, "", "").result()
                actors = self._placement.actors or max(1, len(self._library.nodes()))
                placement = replace(self._placement, actors=actors)
                threads = placement.sessions_per_actor
                self._pool = Pool(self._library, placement, ProgramHost, self._job.host, actors, threads)
            return self._pool


def _terms(program: Any) -> tuple[Limits, PriceTable]:
    """Limits and prices of a program: those of its first `RLM`."""
    first = next((one for _, one in program.named_sub_modules(RLM)), None)
    return (Limits(), PriceTable()) if first is None else (first._limits, first._prices)  # noqa: SLF001


class _Pickler(cloudpickle.CloudPickler):  # type: ignore[misc]  # not typed
    """Leaves behind what an LM has been asked so far."""

    def reducer_override(self, obj: Any) -> Any:
        if isinstance(obj, dspy.BaseLM) and obj.history:
            return obj.copy().__reduce_ex__(5)
        return super().reducer_override(obj)


def _pickled(value: Any, what: str) -> bytes:
    buffer = io.BytesIO()
    try:
        _Pickler(buffer).dump(value)
    except Exception as error:
        raise InputError(f"{what} cannot be sent to another node: {type(error).__name__}: {error}") from error
    return buffer.getvalue()


def _pickled_error(error: Exception) -> bytes:
    """An exception as it was, or what it says."""
    try:
        data: bytes = cloudpickle.dumps(error)
        cloudpickle.loads(data)
    except Exception:  # noqa: BLE001 - some cannot be
        data = cloudpickle.dumps(RLMError(f"{type(error).__name__}: {error}"))
    return data
