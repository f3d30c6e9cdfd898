"""Public data sets in local files: tasks in their published forms, scored by the official rules."""

from __future__ import annotations

import hashlib
import heapq
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from rlm_adapters.errors import InputError
from rlm_adapters.evaluation.public import browsecomp, locodiff, longbench, oolong, ruler
from rlm_adapters.evaluation.tasks.task import Question, Task


@dataclass(frozen=True, slots=True)
class Dataset:
    """A public data set.

    Attributes:
        read: reads its questions from a file or a folder.
        source: where to get it.
    """

    read: Callable[[Path], Iterator[Question]]
    source: str


DATASETS: Final[Mapping[str, Dataset]] = {
    "oolong": Dataset(
        oolong.read,
        "rows of https://huggingface.co/datasets/oolongbench/oolong-synth or oolong-real, JSON lines or parquet",
    ),
    "longbench-codeqa": Dataset(
        longbench.read, "data.json of https://huggingface.co/datasets/THUDM/LongBench-v2 (zai-org/LongBench-v2)"
    ),
    "browsecomp-plus": Dataset(
        browsecomp.read,
        "browsecomp_plus_decrypted.jsonl, which the script of https://github.com/texttron/BrowseComp-Plus writes",
    ),
    "ruler": Dataset(ruler.read, "what prepare.py of https://github.com/NVIDIA/RULER writes: TASK/validation.jsonl"),
    "locodiff": Dataset(locodiff.read, "the folder with *_prompt.txt of https://github.com/AbanteAI/LoCoDiff-bench"),
}
"""By name."""


def public_data(spec: str, samples: int, seed: int = 0) -> list[Task]:
    """Tasks of a public data set. Nothing is downloaded.

    Args:
        spec: ``NAME:PATH``, a name in `DATASETS` and a local file or folder.
        samples: number of tasks. A larger sample contains the smaller ones.
        seed: another seed gives other tasks.

    Raises:
        InputError: the data set or the file does not exist, or the file has another form.
    """
    name, _, path = str(spec).partition(":")
    if name not in DATASETS or not path:
        raise InputError(f"data={spec!r}: give NAME:PATH, with one of {', '.join(DATASETS)}")
    place, dataset = Path(path).expanduser(), DATASETS[name]
    if not place.exists():
        raise InputError(f"data={spec!r}: {place} does not exist; nothing is downloaded. Get {dataset.source}")
    # Each question gets a random number, and the lowest are used. So a larger sample contains a smaller one.
    drawn = (
        (hashlib.sha256(f"{seed}/{number}".encode()).digest(), number, question)
        for number, question in enumerate(dataset.read(place))
    )
    lowest = heapq.nsmallest(samples, drawn, key=lambda one: one[:2])
    if not lowest:
        raise InputError(f"data={spec!r}: {place} has no question of this data set. Get {dataset.source}")
    return [_task(name, number, seed, question) for _, number, question in lowest]


def _task(name: str, number: int, seed: int, question: Question) -> Task:
    """Make a task. Its id changes if the row changes. No text of the file becomes a name."""
    context = question.context if isinstance(question.context, str) else json.dumps(question.context)
    content = json.dumps([question.text, context, question.answer])
    digest = hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:12]
    size = _rounded(len(context.encode("utf-8", "surrogatepass")))
    return Task(
        family=name, size=size, split="held_out", seed=seed, number=number, question=question,
        name=f"{name}/{number}-{digest}",
    )  # fmt: skip


def _rounded(size: int) -> int:
    """Round up to 1, 2, 5, 10, ..., to group figures by size."""
    power = 1
    while True:
        for factor in (1, 2, 5):
            if size <= factor * power:
                return factor * power
        power *= 10
