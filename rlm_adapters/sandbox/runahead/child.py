"""The child: run a cell again from its start, with placeholders for unknown answers, and report its calls."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from types import CodeType
from typing import Any, Final, NoReturn

from rlm_adapters.sandbox.language.policy import compile_cell
from rlm_adapters.sandbox.protocol.frames import Message, dumps, to_wire
from rlm_adapters.sandbox.protocol.journal import answer_from_json, call_hash
from rlm_adapters.sandbox.protocol.types import Answer, HostFunction, Value
from rlm_adapters.sandbox.repl.repl import Repl, cell_name
from rlm_adapters.sandbox.runahead.reach import replace_code
from rlm_adapters.sandbox.runahead.rewrite import rewrite
from rlm_adapters.sandbox.runahead.snapshot import Reporter
from rlm_adapters.sandbox.runahead.unknown import EAGER, UNKNOWN, Operations, Unknown, holds_unknown
from rlm_adapters.sandbox.runtime.hostcalls import WireCall

_UNKNOWN_CALL: Final = WireCall("")
"""Replaces a call with unknown arguments."""
_HOPELESS: Final = 2_000
"""After this number of calls with unknown arguments, a child stops."""

AT_EFFECT: Final = b"0"
"""The report of a child that ends where the cell would call a tool, if ``tells_effect``."""


class Rehearsal:
    """Runs a cell ahead in a copy of the worker's REPL. All of this happens in a forked process.

    Args:
        repl: the REPL before the cell.
        code: the cell.
        earlier: the earlier cells by their file names.
        effects: names of the functions with effects. The child ends where it would call one.
        tells_effect: report `AT_EFFECT` there.
    """

    def __init__(
        self,
        repl: Repl,
        code: str,
        earlier: Mapping[str, str],
        effects: frozenset[str],
        *,
        tells_effect: bool = False,
    ) -> None:
        self._repl = repl
        self._code = code
        self._earlier = earlier
        self._effects = effects
        self._tells_effect = tells_effect
        self._answers: Mapping[str, Any] = {}
        self._waiting: frozenset[str] = frozenset()
        self._seen: Counter[str] = Counter()
        self._left = 0
        self._hopeless = 0
        self._reporter: Reporter

    def prepare(self) -> None:
        """In the snapshot: compile the rewritten cell, once for all children."""
        repl, environment = self._repl, self._repl.environment
        Unknown.mark = f"\ue000{os.urandom(8).hex()}\ue001"
        environment.classes.allow(str, shown_for=Unknown)
        operations = Operations(lambda name: repl.namespace.__setitem__(name, UNKNOWN))
        builtins = environment.builtins
        write, update = builtins["_write_"], builtins["_update_"]
        builtins.update(operations.names())
        builtins.update(EAGER)
        builtins["_write_"] = lambda owner, name: owner if type(owner) is Unknown else write(owner, name)
        builtins["_update_"] = lambda owner, name: owner if type(owner) is Unknown else update(owner, name)
        functions = environment.scheduler.functions
        plan = functions.plan
        self._describe_unknown(plan, vars(functions))
        replace_code(list(repl.namespace.values()), repl.namespace, self._recompile)
        compiled = compile_cell(self._code, cell_name(repl.cells + 1), rewrite=rewrite)
        repl.compile = lambda _code, _filename: compiled

    def run(self, request: Message, reporter: Reporter) -> None:
        """In a child: run the cell, and report at most ``request["most"]`` calls."""
        self._answers = request["answers"]
        self._waiting = frozenset(request["waiting"])
        self._left = request["most"]
        self._reporter = reporter
        self._repl.run(self._code)

    def call_host(self, calls: Sequence[WireCall]) -> list[Answer]:
        """In a child: answer known calls, and report unknown ones."""
        return [self._answer(call) for call in calls]

    def _answer(self, call: WireCall) -> Answer:
        if call is _UNKNOWN_CALL:
            self._hopeless += 1
            if self._hopeless > _HOPELESS:
                self._reporter.end()
            return Value(UNKNOWN)
        digest = call_hash(call.function, call.args, call.kwargs)
        occurrence = self._seen[digest]
        self._seen[digest] += 1
        key = f"{digest}:{occurrence}"
        if key in self._answers:
            return answer_from_json(self._answers[key])
        if call.function in self._effects:
            self._end_at_effect()  # only the real run may call it, and later code may depend on it
        if key in self._waiting:
            return Value(UNKNOWN)
        self._hopeless = 0
        self._reporter.add(_line(call, occurrence))
        self._left -= 1
        if self._left <= 0:
            self._reporter.end()
        return Value(UNKNOWN)

    def _end_at_effect(self) -> NoReturn:
        if self._tells_effect:
            self._reporter.add(AT_EFFECT)
        self._reporter.end()

    def _recompile(self, filename: str) -> CodeType | None:
        code = self._earlier.get(filename)
        if code is None:
            return None
        try:
            return compile_cell(code, filename, rewrite=rewrite)
        except Exception:  # noqa: BLE001 - the function then runs as it is
            return None

    def _describe_unknown(self, plan: Callable[..., list[WireCall]], methods: dict[str, Any]) -> None:
        """Allow calls with unknown arguments. They become `_UNKNOWN_CALL`."""

        def plan_unknown(function: HostFunction, args: Sequence[Any], kwargs: dict[str, Any]) -> list[WireCall]:
            if not (holds_unknown(args) or holds_unknown(kwargs)):
                return plan(function, args, kwargs)
            if function.effects:
                self._end_at_effect()
            if function.batch_of is None or not args or type(args[0]) not in (list, tuple) or holds_unknown(args[1:]):
                return [_UNKNOWN_CALL]
            single = [
                plan_unknown(function, [[item], *args[1:]], kwargs) for item in args[0] if not holds_unknown(item)
            ]
            known = iter(single)
            return [_UNKNOWN_CALL if holds_unknown(item) else next(known)[0] for item in args[0]]

        methods["plan"] = plan_unknown  # overrides the method for this object


def _line(call: WireCall, occurrence: int) -> bytes:
    entry = {"f": call.function, "a": to_wire(call.args), "k": to_wire(call.kwargs), "n": occurrence}
    return dumps(entry).encode("utf-8", "replace")
