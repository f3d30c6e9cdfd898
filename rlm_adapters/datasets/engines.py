"""Engines that answer rows: a graph, a chat model, or a DSPy module, with one protocol."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Protocol

from langchain_core.messages import HumanMessage

from rlm_adapters.datasets.question import RowQuestion, as_mapping, as_text
from rlm_adapters.datasets.rows import Row
from rlm_adapters.errors import InputError, NoAnswerError
from rlm_adapters.graph.choices import check_prices
from rlm_adapters.graph.compiled import RLMGraph
from rlm_adapters.langchain.chat_model import ChatRLM
from rlm_adapters.models.limits import Limits
from rlm_adapters.models.prices import PriceTable
from rlm_adapters.models.targets import ChatTarget, model_name

if TYPE_CHECKING:
    from rlm_adapters.dspy.module import RLM

ANSWERED: Final = frozenset({"submitted", "text", "direct"})
"""Finish reasons of an answered row. With any other reason the answer is the best one so far, or None."""

_DSPY: Final = "rlm_adapters.dspy.module"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a row's run."""

    answer: Any
    finish_reason: str
    error: str | None = None
    run_id: str = ""


class Engine(Protocol):
    """Answers rows."""

    @property
    def limits(self) -> Limits:
        """Limits of one row. Those of calls at once and per minute apply to all rows together."""
        ...

    @property
    def prices(self) -> PriceTable:
        """Prices of its models."""
        ...

    def describe(self) -> dict[str, Any]:
        """The question and the models. They must be the same in every start with the same file of answers."""
        ...

    def check_row(self, row: Row) -> None:
        """Refuse a row that cannot be asked.

        Raises:
            InputError: a column is missing.
        """
        ...

    def check_prices(self, limits: Limits) -> None:
        """Refuse a cost limit that cannot be checked.

        Raises:
            InputError: the price of a model is unknown.
        """
        ...

    async def ask(self, row: Row) -> Outcome:
        """Answer a row.

        Raises:
            RLMError: there is no answer.
        """
        ...


def engine_of(given: Any, question: str | None, fields: Sequence[str] | None) -> Engine:
    """The engine for the argument ``engine``.

    Args:
        given: a graph of `create_rlm_graph`, a `ChatRLM`, or an `RLM`.
        question: for each row; None for an `RLM`, whose signature is the question.
        fields: columns of the context.

    Raises:
        InputError: it cannot answer rows.
    """
    if isinstance(given, RLMGraph):
        return _GraphEngine(given, RowQuestion(_needed(question), fields))
    if isinstance(given, ChatRLM):
        return _ChatEngine(given, RowQuestion(_needed(question), fields))
    module = sys.modules.get(_DSPY)
    if module is not None and isinstance(given, module.RLM):
        if question is not None or fields is not None:
            raise InputError(
                f"question={question!r:.80}: the signature of an RLM says what is asked, and its inputs are the "
                "columns: give None, and no field"
            )
        return _ModuleEngine(given)
    raise InputError(f"engine={given!r:.80}: give a graph of create_rlm_graph, a ChatRLM, or an RLM (dspy)")


def _needed(question: str | None) -> str:
    if question is None:
        raise InputError("question=None: give a question for each row")
    return question


class _GraphEngine:
    def __init__(self, graph: RLMGraph, question: RowQuestion) -> None:
        known = graph.rlm
        if graph.checkpointer or known.approve is not None:
            raise InputError(
                "a graph with a checkpointer, or with approve, has threads: give a graph without them for rows"
            )
        if not known.keys.plain:
            raise InputError(
                "a graph with other names (inputs=...) belongs to a larger graph: give a graph without inputs="
            )
        self._graph = graph
        self._question = question
        self.limits = known.limits
        self.prices = known.prices

    def describe(self) -> dict[str, Any]:
        known = self._graph.rlm
        return {
            "question": self._question.text,
            "model": known.writer.target.name,
            "sub_model": known.sub.name,
            "field": self._question.fields,
            "output_type": known.output.schema,
            "instructions": known.instructions,
        }

    def check_row(self, row: Row) -> None:
        self._question.of(row)

    def check_prices(self, limits: Limits) -> None:
        known = self._graph.rlm
        check_prices(limits, self.prices, (known.writer.target, known.sub, *known.models.values()))

    async def ask(self, row: Row) -> Outcome:
        query, context = self._question.of(row)
        result = await self._graph.ainvoke({"query": query, "context": context})
        return Outcome(result["answer"], result["finish_reason"], result.get("error"))


class _ChatEngine:
    def __init__(self, model: ChatRLM, question: RowQuestion) -> None:
        if model.checkpointer is not None or model.approve is not None:
            raise InputError(
                "a ChatRLM with a checkpointer, or with approve, suspends runs: give one without them for rows"
            )
        self._model = model
        self._question = question
        self.limits = model.limits
        self.prices = PriceTable(model.prices)

    def describe(self) -> dict[str, Any]:
        model = self._model
        return {
            "question": self._question.text,
            "model": model_name(model.model),
            "sub_model": model_name(model.sub_model or model.model),
            "field": self._question.fields,
            "output_type": None,
            "instructions": model.instructions,
        }

    def check_row(self, row: Row) -> None:
        self._question.of(row)

    def check_prices(self, limits: Limits) -> None:
        model = self._model
        asked = [model.model, *([] if model.sub_model is None else [model.sub_model])]
        targets = [*(ChatTarget(one) for one in asked), *(ChatTarget(one, key) for key, one in model.models.items())]
        check_prices(limits, self.prices, targets)

    async def ask(self, row: Row) -> Outcome:
        query, context = self._question.of(row)
        text = "" if context is None else as_text(context)
        if len(text) + len(query) < self._model.direct_below:
            # A given context is always a variable. In the message, one call can answer a short row.
            query, context = f"{text}\n\n{query}".strip(), None
        given = {} if context is None else {"rlm_context": context}
        try:
            message = await self._model.ainvoke([HumanMessage(query)], {"configurable": given})
        except NoAnswerError as error:
            return Outcome(None, error.finish_reason, str(error))
        told = message.response_metadata
        return Outcome(str(message.text), told["finish_reason"], told.get("error"), told.get("run_id", ""))


class _ModuleEngine:
    def __init__(self, module: RLM) -> None:
        self._module = module
        self._inputs = tuple(module.signature.input_fields)
        self._outputs = tuple(module.signature.output_fields)
        self.limits = module._limits  # noqa: SLF001 - of this package
        self.prices = module._prices  # noqa: SLF001

    def describe(self) -> dict[str, Any]:
        from rlm_adapters.dspy.submodel import SubLM  # noqa: PLC0415 - DSPy is an extra

        signature = self._module.signature
        state = json.dumps(self._module.dump_state(), sort_keys=True, default=str)
        return {
            "question": signature.instructions,
            "signature": signature.signature,
            "model": self._root_name(),
            "sub_model": SubLM(self._module.sub_lm, self._module.sub_call).name,
            "program": hashlib.sha256(state.encode("utf-8", "surrogatepass")).hexdigest()[:16],
        }

    def check_row(self, row: Row) -> None:
        as_mapping(row, self._inputs)

    def check_prices(self, limits: Limits) -> None:
        if limits.max_cost is not None:
            for name in {self._root_name(), self.describe()["sub_model"]}:
                self.prices.require(name)

    async def ask(self, row: Row) -> Outcome:
        prediction = await self._module.acall(**as_mapping(row, self._inputs))
        told: Mapping[str, Any] = prediction.rlm
        fields = {name: getattr(prediction, name, None) for name in self._outputs}
        answer: Any = fields if len(fields) > 1 else next(iter(fields.values()))
        empty = told["finish_reason"] not in ANSWERED and not any(value is not None for value in fields.values())
        plain = await asyncio.to_thread(_plain, answer)
        return Outcome(None if empty else plain, told["finish_reason"], told.get("error"))

    def _root_name(self) -> str:
        return str(self._module._writer(None).target.name)  # noqa: SLF001


def _plain(answer: Any) -> Any:
    from rlm_adapters.values.answers import to_plain  # noqa: PLC0415 - needs pydantic's schemas

    return {key: to_plain(value) for key, value in answer.items()} if isinstance(answer, dict) else to_plain(answer)
