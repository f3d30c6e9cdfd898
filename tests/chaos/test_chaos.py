"""The short form of ``make chaos``: on SQLite, some ten kills."""

import json
import sqlite3
from contextlib import closing

import pytest

from tests.chaos import processes, savers
from tests.chaos.__main__ import one
from tests.chaos.harness import chaos, first_messages
from tests.chaos.job import Aim, Job
from tests.chaos.script import LOOP

pytestmark = pytest.mark.skipif(not processes.AVAILABLE, reason="needs Linux's /proc and subreapers")


@pytest.fixture(scope="module")
def used(tmp_path_factory):
    with chaos(tmp_path_factory.mktemp("chaos"), seed=3) as made:
        yield made


@pytest.mark.parametrize(
    ("form", "durability", "kind"), [("sync", "sync", "graph"), ("async", "sync", "graph"), ("async", "sync", "chat")]
)
def test_a_run_that_is_killed_again_and_again_ends_right_and_pays_nothing_committed_twice(used, form, durability, kind):
    count = one(used, f"{kind}{form}{durability}", "", form, durability, "ahead", kind)
    assert count.wrong == []
    assert count.kills.total() > 0
    assert count.faults == 0, count


@pytest.mark.postgres
@pytest.mark.parametrize(("form", "kind"), [("sync", "graph"), ("async", "graph"), ("async", "chat")])
def test_the_fence_is_in_force_and_a_lost_lease_is_taken_again(used, postgres_url, tmp_path, form, kind):
    tag = f"{kind}fence{form}"
    messages = first_messages(tag) if kind == "chat" else None
    at = iter([tuple(Aim("commit", nth, 0.0, "lease") for nth in (2, 14, 30))])
    job = Job(tag, postgres_url, str(tmp_path / tag), used.server.url, form, messages=messages)
    count = used.run(job, aims=lambda: next(at, ()))
    assert count.kills["lease commit"] > 0
    assert count.faults == 0, count


@pytest.mark.parametrize("nth", [1, 12])
def test_a_chat_run_that_is_killed_before_its_next_checkpoint_is_not_begun_again(used, tmp_path, nth):
    """Its last tasks have written: nothing is left to do for them, and the run has not ended."""
    tag = f"chatwindow{nth}"
    job = Job(
        tag, str(tmp_path / f"{tag}.db"), str(tmp_path / tag), used.server.url, "async", messages=first_messages(tag)
    )
    at = iter([(), (), (Aim("after commit", nth, 0.0, "host"),)])
    count = used.run(job, aims=lambda: next(at, ()))
    assert count.kills.total() == 1
    assert count.repeated_in_window == 0
    assert count.faults == 0, count


@pytest.mark.postgres
def test_a_run_whose_answer_is_lost_after_its_end_has_no_thread_to_go_on_with(used, postgres_url, tmp_path):
    """Not even where the thread of a first turn that was killed is still there: the client cannot name that one."""
    tag = "chatlost"
    messages = first_messages(tag)
    at = iter([(Aim("cell", 2, 0.0, "host"),), (), (), (Aim("approval", 1, 0.0, "host"),)])
    job = Job(tag, postgres_url, str(tmp_path / tag), used.server.url, "async", messages=messages)
    count = used.run(job, aims=lambda: next(at, ()))
    assert count.kills == {"host cell": 1, "host approval": 1}
    assert count.repeated_in_window >= 12
    assert count.faults == 0, count


def test_what_a_child_saved_before_its_parent_is_found_by_nobody(used, tmp_path):
    """As after ``durability="async"``: the checkpoint from which the child began was not stored any more."""
    database = tmp_path / "early.db"
    at = iter([(Aim("fan-out", LOOP + 3, 0.0, "host"),)])

    def lose():
        with closing(sqlite3.connect(database)) as db:
            (metadata,) = db.execute("select metadata from checkpoints where checkpoint_ns <> '' limit 1").fetchone()
            begun_at = json.loads(metadata)["parents"][""]
            assert "<KIDSUB early.>" in str(db.execute("select value from writes where checkpoint_ns <> ''").fetchall())
            assert any(b"KIDSUB" in one.data for one in savers.saved(str(database), "early"))
            db.execute("delete from checkpoints where checkpoint_ns = '' and checkpoint_id >= ?", (begun_at,))
            db.commit()
            assert not any(b"KIDSUB" in one.data for one in savers.saved(str(database), "early"))

    job = Job("early", str(database), str(tmp_path / "early"), used.server.url, parallel="off")
    count = used.run(job, lose, aims=lambda: next(at, ()))
    assert count.kills == {"host fan-out": 1}
    assert [asked.partition(" (")[0] for asked in count.repeated_committed] == ["KIDSUB early."], "it began again"
    assert count.faults == 1, count


def test_a_saver_that_loses_what_was_committed_is_noticed(used, tmp_path):
    """The harness can fail: without this it would prove nothing."""
    database = tmp_path / "lossy.db"
    at = iter([(Aim("tool's end", 1, 0.0, "host"),), (Aim("approval", 1, 0.0, "host"),)])

    def lose():
        with closing(sqlite3.connect(database)) as db:
            db.execute("delete from checkpoints")
            db.execute("delete from writes")
            db.commit()

    job = Job("lossy", str(database), str(tmp_path / "lossy"), used.server.url)
    count = used.run(job, lose, aims=lambda: next(at, ()))
    assert count.kills.total() == 2
    assert count.repeated_committed
    assert count.tools_again == 1
    assert count.faults > 0
