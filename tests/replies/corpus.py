"""Comparing readings with the expected ones of the corpora."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rlm_adapters.replies import UNSET, Reading, read_reply

CORPUS = Path(__file__).parents[1] / "corpus"


def load(name: str) -> list[dict[str, Any]]:
    return json.loads((CORPUS / name).read_text(encoding="utf-8"))


def read(sample: dict[str, Any], raw: str | None = None) -> Reading:
    return read_reply(
        sample["raw"] if raw is None else raw,
        names=sample.get("env", ()),
        finish_reason=sample.get("finish_reason"),
        refusal=sample.get("refusal"),
        tool_calls=sample.get("tool_calls", ()),
    )


def as_expected(reading: Reading, sample: dict[str, Any]) -> bool:
    """Whether it is the expected reading; for a debatable sample, one of those given."""
    return any(_matches(reading, expect) for expect in [sample["expect"], *sample.get("alternatives", [])])


def _matches(reading: Reading, expect: dict[str, Any]) -> bool:
    if reading.kind != expect["kind"]:
        return False
    code = expect.get("code")
    wanted = [] if code is None else [code] if isinstance(code, str) else code
    if [c.strip("\n") for c in reading.code] != [c.strip("\n") for c in wanted]:
        return False
    final = reading.final
    if expect.get("final") is None:
        if final is not None:
            return False
    else:
        if final is None or final.text.strip() != expect["final"].strip():
            return False
        # an expression is a computed value, whichever function it was given to
        if expect.get("final_kind") and final.kind not in (expect["final_kind"], "expression"):
            return False
        if "literal" in expect and (final.literal is UNSET or final.literal != expect["literal"]):
            return False
        if "provisional" in expect and final.provisional is not expect["provisional"]:
            return False
    if "best" in expect and reading.best_so_far != expect["best"]:
        return False
    return "repair" not in expect or reading.repair == expect["repair"]


def count(name: str) -> tuple[int, int, list[str]]:
    """Number read as expected, number of replies, ids of the others."""
    samples = load(name)
    others = [s["id"] for s in samples if not as_expected(read(s), s)]
    return len(samples) - len(others), len(samples), others


if __name__ == "__main__":
    for corpus in ("replies.json", "replies_own.json"):
        if (CORPUS / corpus).exists():
            good, total, others = count(corpus)
            print(f"{corpus}: {good} of {total} read as expected", *others)
