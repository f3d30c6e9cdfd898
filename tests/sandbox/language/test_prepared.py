"""A namespace that was made before the fork, as workers have it, is the one that a session would make for itself."""

from rlm_adapters.sandbox.protocol.types import HostFunction, Value
from rlm_adapters.sandbox.repl.repl import Repl

CELLS = (
    "import random, time, datetime, uuid\nprint(random.random(), random.gauss(0, 1), random.Random(3).random())",
    "print(time.time(), time.monotonic(), datetime.datetime.now(), uuid.uuid4())",
    "print('x' * 1000)\nprint('end')",
    "open('small.txt', 'w').write('y' * 100)\nopen('large.txt', 'w').write('y' * 5000)",
    "print(llm_query('one'), llm_query_batched(['two', 'three']))",
    "class A:\n    pass\nprint(type(A()), [type(one) for one in (1, '', A)], sorted(vars()))",
    "try:\n    llm_query()\nexcept TypeError as error:\n    print(error)\nundefined",
    "SUBMIT(1, 2, 3)",
    "SUBMIT('one', b=[2])",
)
SETTINGS = {
    "functions": [
        HostFunction(name="llm_query", effects=False, parameters=("prompt",)),
        HostFunction(name="llm_query_batched", effects=False, batch_of="llm_query", parameters=("prompts",)),
    ],
    "output_chars": 200,
    "file_bytes": 2_000,
    "output_fields": ("a", "b"),
    "seed": 7,
    "epoch": 1.7e9,
}


def answer(calls):
    return [Value(f"answer to {call.args[0]}") for call in calls]


def test_cells_come_to_the_same_in_both():
    early = Repl()  # nothing of the session is known yet, and another one begins before it
    fresh = Repl().begin(call_host=answer, **SETTINGS)
    prepared = early.begin(call_host=answer, **SETTINGS)
    for code in CELLS:
        assert prepared.run(code) == fresh.run(code), code
    assert prepared.run(CELLS[-1]).final.value == {"a": "one", "b": [2]}
    assert prepared.files_written() == fresh.files_written()
