"""Two workers on one PostgreSQL, one killed in the middle: the other one ends its runs."""

import uuid

import psycopg
import pytest

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
