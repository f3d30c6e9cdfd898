"""Bodies in threads: one whose call takes too long is continued by another thread."""

import contextvars
import threading
import time
from contextlib import suppress

import pytest

from rlm_adapters.crew import Crew
from rlm_adapters.effects import Wait, gather

NAME = contextvars.ContextVar("NAME", default="none")
LONG = 60.0


def blocking(run, timeout=None):
    return Wait(run, None, timeout)


def results(bodies, threads=8):
    return Crew(bodies, threads).results()


def names_of_crews():
    return [thread for thread in threading.enumerate() if thread.name == "rlm-gather"]


@pytest.fixture
def hang():
    """A call that blocks until the test ends."""
    event = threading.Event()
    yield lambda: event.wait(LONG)
    event.set()


def test_a_body_goes_on_after_the_time_out_of_its_call(hang):
    def body(number):
        try:
            yield blocking(hang, 0.05)
        except TimeoutError:
            answer = yield blocking(lambda: f"again {number}", LONG)
            return answer

    assert results([body(number) for number in range(20)], threads=4) == [f"again {number}" for number in range(20)]


def test_a_result_that_comes_too_late_is_dropped():
    late = threading.Event()
    seen = []

    def slow():
        late.wait(LONG)
        return "late"

    def body():
        try:
            seen.append((yield blocking(slow, 0.02)))
        except TimeoutError:
            late.set()
        for _ in range(20):
            told = yield blocking(lambda: time.sleep(0.002) or "on time", LONG)
            seen.append(told)

    results([body()])
    assert seen == ["on time"] * 20


def test_a_call_that_fails_too_late_is_dropped_as_well():
    late = threading.Event()

    def slow():
        late.wait(LONG)
        raise OSError("late")

    def body():
        try:
            yield blocking(slow, 0.02)
        except TimeoutError:
            late.set()
        yield blocking(lambda: time.sleep(0.05))
        return "done"

    assert results([body()]) == ["done"]


def test_a_time_out_of_nothing_calls_nothing():
    called = []

    def body():
        try:
            yield blocking(lambda: called.append(1), 0.0)
        except TimeoutError:
            return "over"

    assert (results([body()]), called) == (["over"], [])


def test_a_variable_of_the_context_that_was_set_before_a_time_out_can_be_reset_after_it(hang):
    def body():
        token = NAME.set("inside")
        try:
            yield blocking(hang, 0.02)
        except TimeoutError:
            told = NAME.get()
            NAME.reset(token)
            return told, (yield blocking(NAME.get, LONG))

    assert results([body()]) == [("inside", "none")]


def test_each_call_sees_the_context_of_its_body():
    def body(name):
        NAME.set(name)
        return [(yield blocking(NAME.get, LONG)), (yield blocking(NAME.get))]

    assert results([body("a"), body("b")]) == [["a", "a"], ["b", "b"]]
    assert NAME.get() == "none"


def test_no_more_bodies_run_at_once_than_there_are_threads_also_after_time_outs(hang):
    lock, running, most = threading.Lock(), [0], [0]

    def count(change):
        with lock:
            running[0] += change
            most[0] = max(most[0], running[0])

    def body(number):
        if number % 3 == 0:
            with suppress(TimeoutError):
                yield blocking(hang, 0.01)
        count(1)
        yield blocking(lambda: time.sleep(0.002), LONG)
        count(-1)

    results([body(number) for number in range(60)], threads=3)
    assert 1 <= most[0] <= 3


def test_the_first_error_is_raised_although_a_body_before_it_still_waits(hang):
    def waits():
        yield blocking(hang)

    def fails():
        yield blocking(lambda: None)
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        results([waits(), fails()])


def test_bodies_that_have_not_begun_when_one_fails_never_begin():
    begun = []

    def fails():
        yield blocking(lambda: None)
        raise ValueError("no")

    def body():
        begun.append(1)
        yield blocking(lambda: None)

    with pytest.raises(ValueError, match="no"):
        results([fails(), *(body() for _ in range(50))], threads=1)
    assert not begun


def test_all_threads_end():
    before = len(names_of_crews())

    def body():
        yield blocking(lambda: None, LONG)

    results([body() for _ in range(40)], threads=16)
    for thread in names_of_crews():
        thread.join(LONG)
    assert len(names_of_crews()) <= before


def test_few_threads_are_enough_if_the_system_allows_no_more(monkeypatch):
    from rlm_adapters import crew

    start, started = crew._thread, []

    def refuses(work):
        if started:
            raise RuntimeError("can't start new thread")
        started.append(1)
        start(work)

    monkeypatch.setattr(crew, "_thread", refuses)

    def body(number):
        return (yield blocking(lambda: number, LONG))

    assert results([body(number) for number in range(5)]) == list(range(5))


def test_random_bodies_end_as_one_after_the_other():
    import random

    chance = random.Random(5)
    plans = [[chance.choice(["quick", "slow", "fails"]) for _ in range(chance.randrange(5))] for _ in range(60)]
    ended = threading.Event()

    def call(kind):
        if kind == "fails":
            raise KeyError(kind)
        if kind == "slow":
            ended.wait(LONG)
        return kind

    def body(plan):
        told = []
        for kind in plan:
            try:
                told.append((yield blocking(lambda kind=kind: call(kind), 0.03 if kind == "slow" else LONG)))
            except (KeyError, TimeoutError) as error:
                told.append(type(error).__name__)
        return told

    words = {"quick": "quick", "slow": "TimeoutError", "fails": "KeyError"}
    try:
        assert results([body(plan) for plan in plans], threads=7) == [[words[kind] for kind in plan] for plan in plans]
    finally:
        ended.set()


def test_gathered_works_are_driven_like_this(hang):
    def work():
        try:
            yield Wait(hang, None, 0.02)
        except TimeoutError:
            return "over"

    assert gather([work(), work()], 2).run() == ["over", "over"]
