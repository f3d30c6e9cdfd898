"""The pool of threads of a sandbox: it grows with the work and shrinks without."""

import threading
import time

import pytest

from rlm_adapters.sandbox.host.threads import Threads


@pytest.fixture
def pool():
    made = Threads("test", most=20, idle_seconds=0.1)
    yield made
    made.shutdown()


def until(condition, pause=0.01):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(pause)


def test_it_has_as_many_threads_as_work_and_none_after_a_while(pool):
    everybody = threading.Barrier(20)
    done = [pool.submit(everybody.wait, 20) for _ in range(20)]
    assert sorted(one.result() for one in done) == list(range(20))
    assert len(pool) <= 20
    until(lambda: len(pool) == 0)
    assert pool.submit(lambda: "again").result(20) == "again"


def test_one_thread_does_what_comes_one_after_the_other():
    pool = Threads("test", idle_seconds=20)
    names = set()
    for _ in range(50):
        names.add(pool.submit(threading.get_ident).result())
        until(lambda: len(pool._idle) == 1)
    assert len(names) == 1
    pool.shutdown()
    assert len(pool) == 0


def test_what_a_burst_needed_ends_though_a_little_work_goes_on():
    pool, everybody = Threads("test", idle_seconds=0.2), threading.Barrier(40)
    for one in [pool.submit(everybody.wait, 20) for _ in range(40)]:
        one.result(20)
    # One thing after the other, far more often than there are threads in the time after which an idle one ends.
    until(lambda: pool.submit(lambda: len(pool)).result(20) == 1, pause=0)
    pool.shutdown()


def test_more_work_than_threads_waits_its_turn(pool):
    go, began = threading.Event(), []
    work = [pool.submit(lambda n=n: (began.append(n), go.wait(20))) for n in range(50)]
    until(lambda: len(began) == 20)
    assert len(pool) == 20
    go.set()
    assert all(one.result(20)[1] for one in work)
    assert sorted(began) == list(range(50))


def test_what_is_raised_is_the_futures(pool):
    with pytest.raises(ZeroDivisionError):
        pool.submit(lambda: 1 / 0).result(20)
    with pytest.raises(KeyboardInterrupt):
        pool.submit(lambda: (_ for _ in ()).throw(KeyboardInterrupt)).result(20)
    assert pool.submit(lambda: 1).result(20) == 1


def test_its_end_waits_for_what_runs_and_cancels_the_rest():
    pool, go, began = Threads("test", most=1), threading.Event(), threading.Event()
    running = pool.submit(lambda: (began.set(), go.wait(20)))
    assert began.wait(20)
    queued = pool.submit(lambda: "never")
    ended = threading.Thread(target=lambda: pool.shutdown(cancel_futures=True))
    ended.start()
    until(queued.cancelled)
    assert ended.is_alive()
    go.set()
    ended.join(20)
    assert running.done()
    assert pool.submit(lambda: "anew").result(20) == "anew"
    pool.shutdown()


def test_its_end_without_cancelling_does_what_was_given(pool):
    go = threading.Event()
    work = [pool.submit(go.wait, 20)] + [pool.submit(lambda n=n: n) for n in range(100)]
    pool.shutdown(wait=False)
    go.set()
    assert [one.result(20) for one in work[1:]] == list(range(100))


def test_a_machine_without_threads_says_so(pool, monkeypatch):
    def refuse(self):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start"):
            pool.submit(print)
    assert pool.submit(lambda: 1).result(20) == 1
