"""Evaluating: the expert solves every family under each setting, and what was asked once is not asked again."""

import asyncio
import json
import re

import pytest
from blockbuster import blockbuster_ctx

from rlm_adapters.errors import InputError, ModelCallError
from rlm_adapters.evaluation import FAMILIES, aevaluate, evaluate
from rlm_adapters.traces.trajectory import Trajectory
from tests.evaluation.expert import expert, play
from tests.server import Reply, server_error

ALL = ["direct", "direct-cut", "rlm-0", "rlm-1", "rlm-1+example", "rlm-2"]


@pytest.fixture
def run(model_server, chat, sandbox, tmp_path):
    """Evaluate with the expert and the oracle; the event loop stays one, as an HTTP client's connections do."""
    play(model_server)
    with asyncio.Runner() as runner:

        def run(**options):
            given = {
                "sizes": [10_000],
                "samples": 1,
                "output": tmp_path / "results.jsonl",
                "sandbox": sandbox,
                **options,
            }
            models = given.pop("models", ("expert", "oracle"))
            return runner.run(aevaluate(*map(chat, models), **given))

        yield run


@pytest.mark.parametrize("family", FAMILIES)
def test_the_expert_solves_the_family_under_each_setting(run, family):
    found = run(families=[family], settings=ALL, window=60_000)
    assert found.complete
    wrong = [(one.setting, one.why, one.answer, one.error) for one in found.results if not one.correct]
    assert wrong == []
    reasons = {one.setting: one.finish_reason for one in found.results}
    assert reasons == {one.key: "direct" if one.way != "rlm" else "submitted" for one in found.settings}
    assert all(one.accuracy == 1 and one.low == pytest.approx(0.2065, abs=1e-3) for one in found.figures())


def test_sub_calls_are_made_where_the_depth_allows_them(run, model_server):
    found = run(families=["oolong_counts"], settings=ALL, window=60_000)
    calls = {one.setting: (one.usage["root_calls"], one.usage["calls"]) for one in found.results}
    assert calls["direct"] == (1, 0)
    assert calls["rlm-0"] == (2, 0)
    assert calls["rlm-1"][0] == 1
    assert calls["rlm-1"][1] >= 2
    assert calls["rlm-2"][1] > calls["rlm-1"][1]
    prompts = [one.prompt for one in model_server.requests_of("expert")]
    assert sum("Example. Question:" in one for one in prompts) == 1


def test_what_is_cut_out_is_not_seen(run, model_server):
    found = run(families=["long_output"], sizes=[40_000], settings=["direct", "direct-cut"], window=8_000)
    right = {one.setting: one.correct for one in found.results}
    assert right == {"direct": True, "direct-cut-8000": False}
    assert len(model_server.requests[-1].prompt) < 24_000


def test_an_input_beyond_the_window_is_a_wrong_answer(run, model_server):
    model_server.script("expert", expert, context_length=5_000)
    found = run(families=["s_niah"], sizes=[40_000], settings=["direct", "rlm-1"])
    results = {one.setting: one for one in found.results}
    assert found.complete
    assert (results["direct"].correct, results["direct"].finish_reason) == (False, "context_length")
    assert "maximum context length" in results["direct"].error
    assert results["rlm-1"].correct


def test_a_second_start_asks_what_has_no_result(run, model_server, tmp_path):
    options = {"families": ["s_niah", "multi_hop"], "settings": ["rlm-1"]}
    assert run(**options).asked_now == 2
    asked = len(model_server.requests)
    again = run(**options)
    assert (again.asked_now, len(model_server.requests), again.complete) == (0, asked, True)
    more = run(**options | {"settings": ["direct", "rlm-1"], "samples": 2})
    assert (more.asked_now, more.complete, len(more.results)) == (6, True, 8)
    lines = (tmp_path / "results.jsonl").read_text().splitlines()
    keys = [(one["setting"], one["task"]) for one in map(json.loads, lines[1:])]
    assert len(keys) == len(set(keys)) == 8


def test_a_line_that_a_killed_process_had_half_written_is_asked_again(run, tmp_path):
    options = {"families": ["s_niah"], "settings": ["rlm-1"], "samples": 3}
    run(**options)
    path = tmp_path / "results.jsonl"
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])
    found = run(**options)
    assert (found.asked_now, found.complete) == (1, True)
    assert len(path.read_bytes().splitlines()) == len(whole.splitlines())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"models": ("oracle", "oracle")}, "was started with model='expert', and now it is 'oracle'"),
        ({"seed": 3}, "was started with seed='0', and now it is '3'"),
        ({"limits": {"max_iterations": 3}}, "was started with limits="),
    ],
)
def test_results_of_other_models_stand_in_another_file(run, change, message):
    options = {"families": ["s_niah"], "settings": ["rlm-1"]}
    run(**options)
    with pytest.raises(InputError, match=message):
        run(**options | change)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda text: "hello\n", "is not a file of results"),
        (lambda text: "hello", "is not a file of results"),
        (lambda text: text + "{}\n", "line 3: setting='None' is wrong: remove this line"),
        (lambda text: text.replace('"cost": ', '"cost": -'), "give a number|-null"),
        (lambda text: text.replace('"correct": true', '"correct": 1'), "correct='1' is wrong"),
        (lambda text: text + "\x00\n", "line 3 is not JSON: remove this line"),
    ],
)
def test_a_file_that_somebody_edited_is_refused_with_the_line(run, tmp_path, edit, message):
    options = {"families": ["s_niah"], "settings": ["rlm-1"], "prices": {"expert": (1, 1), "oracle": (1, 1)}}
    run(**options)
    path = tmp_path / "results.jsonl"
    path.write_text(edit(path.read_text()))
    before = path.read_bytes()
    with pytest.raises(InputError, match=message):
        run(**options)
    assert path.read_bytes() == before


def test_a_server_that_fails_is_no_wrong_answer(run, model_server):
    model_server.script("expert", lambda messages, request: server_error())
    options = {"families": ["s_niah"], "settings": ["rlm-1"], "limits": {"max_retries": 0}}
    found = run(**options)
    assert (found.voids, found.complete, found.results) == (1, False, [])
    assert found.figures()[0].accuracy is None
    play(model_server)
    found = run(**options)
    assert (found.asked_now, found.complete, found.results[0].correct) == (1, True, True)


def test_a_wrong_key_ends_the_evaluation_and_is_no_result(run, model_server):
    model_server.script("expert", lambda messages, request: Reply("no", status=401, error_code="invalid_api_key"))
    with pytest.raises(ModelCallError, match="auth"):
        run(families=["s_niah"], settings=["direct", "rlm-1"], samples=3)
    play(model_server)
    assert run(families=["s_niah"], settings=["direct", "rlm-1"], samples=3).asked_now == 6


def test_the_budget_holds_over_all_starts(run):
    prices = {"expert": (10, 10), "oracle": (10, 10)}
    options = {"families": ["s_niah", "oolong_counts"], "settings": ["rlm-1"], "samples": 4, "prices": prices}
    found = run(**options, budget=0.1, limits={"max_output_tokens": 500}, parallel=2)
    assert 0 < len(found.results) < 8
    assert 0 < found.spent <= 0.1
    assert found.stopped.startswith("the budget of $0.1 does not suffice")
    assert all(one.correct for one in found.results)
    again = run(**options, budget=0.1, limits={"max_output_tokens": 500}, parallel=2)
    assert again.spent <= 0.1
    done = run(**options, budget=5, limits={"max_output_tokens": 500}, parallel=2)
    assert done.complete
    assert all(one.correct for one in done.results)


async def test_what_an_interrupted_task_has_cost_counts(model_server, chat, sandbox, tmp_path):
    play(model_server)
    model_server.script("oracle", lambda messages, request: Reply("1", latency=30))
    prices = {"expert": (1_000, 1_000), "oracle": (1_000, 1_000)}
    options = {"families": ["oolong_counts"], "settings": ["rlm-1"], "samples": 1, "sizes": [10_000], "prices": prices}
    output = tmp_path / "results.jsonl"
    started = asyncio.ensure_future(
        aevaluate(chat("expert"), chat("oracle"), **options, output=output, sandbox=sandbox)
    )
    while not model_server.requests_of("oracle"):
        await asyncio.sleep(0.01)
    started.cancel()
    with pytest.raises(asyncio.CancelledError):
        await started
    (line,) = output.read_text().splitlines()[1:]
    told = json.loads(line)
    assert (told["void"], told["finish_reason"], told["usage"]["root_calls"]) == (True, "interrupted", 1)
    play(model_server)
    done = await aevaluate(chat("expert"), chat("oracle"), **options, output=output, sandbox=sandbox)
    assert (done.complete, done.results[0].correct) == (True, True)
    assert done.spent > done.results[0].usage["cost"] > 0


def test_a_task_whose_sub_calls_are_too_dear_for_the_budget_is_void(run):
    prices = {"expert": (1, 1), "oracle": (10_000, 10_000)}
    options = {"families": ["oolong_counts"], "settings": ["rlm-1"], "prices": prices, "limits": {"max_iterations": 2}}
    found = run(**options, budget=0.1)
    assert (found.results, found.voids, found.spent <= 0.1) == ([], 1, True)
    assert found.stopped


def test_another_limit_than_the_budget_is_the_model_s_affair(run):
    prices = {"expert": (1, 1), "oracle": (1, 1)}
    limits = {"max_iterations": 2, "max_calls": 0}
    found = run(families=["oolong_counts"], settings=["rlm-1"], prices=prices, limits=limits, budget=50)
    assert (found.voids, found.stopped, found.complete) == (0, None, True)
    assert not found.results[0].correct


def test_a_budget_needs_prices(run):
    with pytest.raises(InputError, match="price of model 'expert' is unknown"):
        run(families=["s_niah"], budget=1)


def test_the_trace_of_every_task_is_kept(run, tmp_path):
    found = run(families=["s_niah"], settings=["direct", "rlm-1"], traces=tmp_path / "traces")
    assert len(list((tmp_path / "traces").glob("*.jsonl"))) == 2
    for one in found.results:
        told = Trajectory.from_trace(tmp_path / "traces" / one.trace)
        assert "special magic number" in str(told.question)
        assert told.finish_reason == one.finish_reason


def test_a_wrong_answer_is_told_with_what_is_wrong(run, model_server):
    model_server.script("expert", lambda messages, request: "Answer: 17 or <script>alert(1)</script> 18 \ud800")
    found = run(families=["s_niah", "oolong_pairs"], settings=["direct"])
    (_, other) = sorted(found.results, key=lambda result: result.family)
    assert (other.correct, other.score) == (False, 0.0)
    page = found.to_html()
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "3 numbers instead of one" in page
    page.encode()


def test_figures_are_told_as_json(run):
    found = run(families=["s_niah", "log_aggregation"], settings=["direct", "rlm-1"], sizes=[10_000, 20_000])
    told = json.loads(json.dumps(found.to_dict()))
    assert (told["done"], told["total"]) == (8, 8)
    assert [one["tasks"] for one in told["figures"]["all"]] == [4, 4]
    assert len(told["figures"]["by_family_and_size"]) == 8
    assert "<svg" in found.to_html()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"families": ["x"]}, "family='x' is unknown: give one of s_niah"),
        ({"families": []}, "families=[]: give a list with at least one"),
        ({"families": "s_niah"}, "families='s_niah': give a list"),
        ({"sizes": [10]}, "size=10: give bytes from 4,000"),
        ({"samples": 0}, "samples=0: give an integer of at least 1"),
        ({"split": "test"}, "split='test' is unknown"),
        ({"settings": ["rlm-9"]}, "setting 'rlm-9' is unknown: give direct"),
        ({"settings": ["direct+example"]}, "use an example or a prompt file only with rlm-0"),
        ({"settings": ["rlm-1@gone.json"]}, "prompt file gone.json: No such file"),
        ({"settings": ["direct-cut"]}, "give window=128000 (--window)"),
        ({"settings": ["direct-cut"], "window": 100}, "window=100 is too small"),
        ({"budget": 0}, "budget=0: give dollars"),
        ({"output": "/gone/there/results.jsonl"}, "No such file or directory; give a file that can be written"),
        ({"sample": 3}, "sample=3"),
    ],
)
def test_what_cannot_be_asked_is_said(run, model_server, change, message):
    with pytest.raises(InputError, match=re.escape(message)):
        run(**{"families": ["s_niah"], **change})
    assert model_server.requests == []


async def test_nothing_blocks_the_event_loop(model_server, chat, sandbox, tmp_path):
    play(model_server)
    models = chat("expert"), chat("oracle")
    options = {
        "families": ["pdf_page", "oolong_counts"],
        "sizes": [100_000],
        "samples": 1,
        "settings": ["direct", "rlm-1"],
    }
    with blockbuster_ctx():
        found = await aevaluate(
            *models, **options, output=tmp_path / "results.jsonl", traces=tmp_path / "traces", sandbox=sandbox
        )
    assert [one.correct for one in found.results] == [True] * 4


async def test_the_blocking_form_works_inside_an_event_loop(model_server, chat, sandbox, tmp_path):
    play(model_server)
    options = {"families": ["s_niah"], "settings": ["direct"], "samples": 1, "sizes": [10_000], "sandbox": sandbox}
    found = evaluate(chat("expert"), output=tmp_path / "results.jsonl", **options)
    assert (found.complete, found.results[0].correct) == (True, True)


def test_two_processes_do_not_write_one_file(run, tmp_path):
    from rlm_adapters.evaluation.results import ResultsFile

    run(families=["s_niah"], settings=["rlm-1"])
    asked = json.loads((tmp_path / "results.jsonl").read_text().splitlines()[0])["asked"]
    with ResultsFile(tmp_path / "results.jsonl", asked), pytest.raises(InputError, match="another process"):
        run(families=["s_niah"], settings=["rlm-1"])
