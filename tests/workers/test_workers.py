"""Two workers on one PostgreSQL: one is killed in the middle, or the database is; all runs are ended all the same."""

import signal
import time
import uuid

import psycopg
import pytest

from tests.postgres import find_program, running_postgres
from tests.workers.crew import crew


@pytest.mark.postgres
def test_a_killed_workers_runs_are_ended_by_the_other_and_none_is_run_by_two(postgres_url, tmp_path):
    name = f"t{uuid.uuid4().hex}"
    with psycopg.connect(postgres_url, autocommit=True) as db:
        db.execute(f"create database {name}")
    url = postgres_url.replace("/postgres?", f"/{name}?")
    seen = crew(url, tmp_path, runs=12, workers=2, kills=1, seed=1)
    assert (seen.answered, seen.wrong, seen.lost, seen.by_two_at_once) == (12, [], 0, [])
    assert seen.gone_on > 0
    assert seen.repeated <= 4 * 4  # those in flight: four runs, four calls at once


@pytest.mark.postgres
@pytest.mark.skipif(find_program("postgres") is None, reason="PostgreSQL is not installed")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT], ids=["stopped", "crashed"])
def test_a_restart_of_the_database_loses_no_run_and_no_worker(tmp_path, how):
    with running_postgres() as server:

        def restart() -> None:
            server.stop(how)
            time.sleep(1)  # workers find nobody there
            server.start()

        seen = crew(server.url, tmp_path, runs=8, workers=2, kills=0, seed=1, restart=restart)
    assert (seen.answered, seen.wrong, seen.lost, seen.by_two_at_once) == (8, [], 0, [])
    assert seen.repeated <= 8 * 4  # those in flight: eight runs, four calls at once
