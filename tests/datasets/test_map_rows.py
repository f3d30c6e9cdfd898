"""`map_rows` and `amap_rows`, against the model server."""

import asyncio
import json
import re
import tracemalloc
from collections import Counter

import pytest

from rlm_adapters import ChatRLM, InputError, Limits, ModelCallError, OutputError, RLMError, amap_rows, create_rlm_graph
from rlm_adapters.datasets.answers import Answer, open_answers
from rlm_adapters.datasets.asked import write_asked
from rlm_adapters.datasets.engines import engine_of
from rlm_adapters.datasets.mapping import map_rows
from tests.server import ModelServer, Reply, cell, question_text, refused, server_error

QUESTION = "Which river is in {name}?"


def towns(count):
    return [{"name": f"town-{number};", "text": f"It lies at river-{number}."} for number in range(count)]


def river(messages, request):
    """What a direct call answers."""
    return f"river-{re.search(r'town-([0-9]+);', question_text(messages)).group(1)}"


@pytest.fixture
def output(tmp_path):
    return tmp_path / "out.jsonl"


@pytest.fixture
def direct(model_server, chat, sandbox):
    """A graph that answers each row by one call."""
    model_server.script("root", river)

    def make(**options):
        limits = {"max_retries": 0, **options.pop("limits", {})}
        return create_rlm_graph(chat("root"), sandbox=sandbox, direct_below=1_000, limits=Limits(**limits), **options)

    return make


def lines(output):
    return [json.loads(line) for line in output.read_text().splitlines()]


def asked_of(server):
    """How often each row was asked."""
    return Counter(re.search(r"town-[0-9]+;", record.prompt).group() for record in server.requests)


def test_every_row_gets_a_line_with_its_answer_usage_and_run(direct, model_server, output):
    seen = []
    done = map_rows(direct(), QUESTION, towns(12), output, on_progress=seen.append, concurrency=4)
    assert (done.rows, done.answered, done.failed, done.skipped, done.stopped) == (12, 12, 0, 0, None)
    assert sorted(line["answer"] for line in lines(output)) == sorted(f"river-{number}" for number in range(12))
    first = lines(output)[0]
    assert set(first) == {"id", "answer", "error", "finish_reason", "usage", "seconds", "run_id"}
    assert first["usage"]["root_calls"] == 1
    assert first["finish_reason"] == "direct"
    assert first["seconds"] > 0
    assert len({line["run_id"] for line in lines(output)}) == len({line["id"] for line in lines(output)}) == 12
    assert done.usage["root_calls"] == done.job_usage["root_calls"] == len(model_server.requests) == 12
    assert [one.answered for one in seen] == [*range(1, 13), 12]


async def test_rows_that_are_answered_are_not_asked_again(direct, model_server, output):
    rows = towns(10)
    assert (await amap_rows(direct(), QUESTION, rows, output, limit=4)).answered == 4
    rows[1] = {**rows[1], "text": "It has moved."}
    done = await amap_rows(direct(), QUESTION, iter(rows), output)
    assert (done.rows, done.answered, done.skipped) == (None, 7, 3)
    assert asked_of(model_server) == Counter({**{f"town-{number};": 1 for number in range(10)}, "town-1;": 2})
    assert done.usage["root_calls"] == 7
    assert done.job_usage["root_calls"] == 11


def test_columns_make_question_and_context_and_ids(direct, model_server, output, sandbox, chat):
    rows = [{"key": number, **row} for number, row in enumerate(towns(3))]
    model_server.script("root", [cell("SUBMIT([context['text'][-3:], sorted(context)])")])
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    map_rows(graph, QUESTION, rows, output, id="key", ordered=True)
    assert [(line["id"], line["answer"]) for line in lines(output)] == [
        (number, [f"-{number}.", ["key", "text"]]) for number in range(3)
    ]
    other = output.with_name("other.jsonl")
    model_server.script("root", [cell("SUBMIT(context)")])
    map_rows(graph, "Which river?", rows, other, fields="text", ordered=True)
    assert [line["answer"] for line in lines(other)] == [f"It lies at river-{number}." for number in range(3)]
    with pytest.raises(InputError, match="started with the id 'key', and now it is 'null'"):
        map_rows(graph, QUESTION, rows, output)


@pytest.mark.parametrize("ordered", [False, True])
def test_answers_come_as_they_are_finished_or_in_the_order_of_the_rows(direct, model_server, output, ordered):
    def slow_first(messages, request):
        return Reply(river(messages, request), latency=1.5 if "town-0;" in question_text(messages) else 0)

    model_server.script("root", slow_first)
    map_rows(direct(), QUESTION, towns(9), output, concurrency=2, ordered=ordered)
    found = [line["answer"] for line in lines(output)]
    assert sorted(found) == [f"river-{number}" for number in range(9)]
    assert (found[0] == "river-0") == (found == sorted(found)) == ordered


def test_rows_that_fail_are_kept_with_their_reason_and_asked_again_when_that_is_wanted(direct, model_server, output):
    def answer(messages, request):
        number = int(re.search(r"town-([0-9]+);", question_text(messages)).group(1))
        faults = {
            1: Reply("too hot", status=400),
            2: server_error("broken"),
            3: Reply("flagged", status=403),
            4: refused("no"),
        }
        return faults.get(number) or river(messages, request)

    model_server.script("root", answer)
    graph = direct(limits={"max_iterations": 1})
    done = map_rows(graph, QUESTION, towns(6), output)
    assert (done.answered, done.failed) == (2, 4)
    errors = {
        line["answer"] if line["error"] is None else line["error"]["kind"]: line["error"] for line in lines(output)
    }
    assert "too hot" in errors["bad_request"]["message"]
    assert "broken" in errors["server"]["message"]
    assert "flagged" in errors["refusal"]["message"]
    assert "max_iterations=1 was reached" in errors["max_iterations"]["message"]  # a refusal is no answer: it went on
    assert done.failures == Counter(line["error"]["kind"] for line in lines(output) if line["error"])
    model_server.script("root", river)
    assert map_rows(graph, QUESTION, towns(6), output).skipped == 6
    again = map_rows(graph, QUESTION, towns(6), output, retry_failed=True)
    assert (again.answered, again.skipped) == (4, 2)
    last = {line["id"]: line["answer"] for line in lines(output)}
    assert set(last.values()) == {f"river-{number}" for number in range(6)}
    assert map_rows(graph, QUESTION, towns(6), output, retry_failed=True).skipped == 6


def test_a_chat_model_that_says_nothing_has_not_answered(model_server, chat, sandbox, output):
    model_server.script("root", [refused("no")])
    model = ChatRLM(model=chat("root"), sandbox=sandbox)
    assert map_rows(model, QUESTION, towns(1), output).failures == {"empty": 1}
    (line,) = lines(output)
    assert (line["answer"], line["finish_reason"]) == (None, "direct")
    assert "may have refused" in line["error"]["message"]


def test_a_limit_of_a_row_leaves_its_best_answer_and_its_reason(model_server, chat, sandbox, output):
    model_server.script("root", lambda messages, request: cell("print(1)") if len(model_server.requests) == 1 else "7")
    graph = create_rlm_graph(chat("root"), sandbox=sandbox, limits=Limits(max_iterations=1))
    done = map_rows(graph, "How many?", [{"text": "a"}], output)
    (line,) = lines(output)
    assert (line["answer"], line["error"]["kind"], line["finish_reason"]) == ("7", "max_iterations", "max_iterations")
    assert "max_iterations" in line["error"]["message"]
    assert done.failures == {"max_iterations": 1}


# Failures that end a job


def test_a_wrong_key_ends_the_job_and_its_rows_are_asked_by_the_next_start(direct, model_server, output):
    model_server.api_key = "another"
    with pytest.raises(ModelCallError, match="check its API key"):
        map_rows(direct(), QUESTION, towns(200), output, concurrency=2)
    assert len(lines(output)) <= 2
    assert {line["error"]["kind"] for line in lines(output)} == {"auth"}
    model_server.api_key = None
    assert map_rows(direct(), QUESTION, towns(6), output).answered == 6


def test_a_provider_that_goes_away_ends_the_job(sandbox, output):
    from langchain_openai import ChatOpenAI

    server = ModelServer().__enter__()
    server.script("root", river)
    model = ChatOpenAI(model="root", base_url=server.url, api_key="test", max_retries=0)
    graph = create_rlm_graph(model, sandbox=sandbox, direct_below=1_000, limits=Limits(max_retries=0))

    def progress(done):
        if done.answered == 5 and not done.failed:
            server.__exit__(None, None, None)

    with pytest.raises(RLMError, match="no connection to the model's server"):
        map_rows(graph, QUESTION, towns(500), output, concurrency=1, on_progress=progress)
    assert 6 <= len(lines(output)) <= 20


def test_rows_that_all_fail_end_the_job(direct, model_server, output):
    model_server.script("root", lambda messages, request: server_error("on fire"))
    with pytest.raises(RLMError, match=r"the last 10 rows failed .* on fire.*--retry-failed"):
        map_rows(direct(), QUESTION, towns(200), output, concurrency=1)
    assert len(lines(output)) == len(model_server.requests) == 10


async def test_a_cancelled_job_keeps_what_is_finished_and_counts_what_was_paid(model_server, chat, sandbox, output):
    def turns(messages, request):
        asked = question_text(messages)
        if "town-1;" not in asked:
            return cell("SUBMIT(1)")
        first = all(message["role"] != "assistant" for message in messages)
        return cell("print(1)") if first else Reply(cell("SUBMIT(2)"), latency=30)

    model_server.script("root", turns)
    graph = create_rlm_graph(chat("root"), sandbox=sandbox)
    started = asyncio.create_task(amap_rows(graph, QUESTION, towns(5), output, concurrency=2))
    while len(model_server.requests) < 6 or len(lines(output)) < 4:
        await asyncio.sleep(0.02)
    started.cancel()
    with pytest.raises(asyncio.CancelledError):
        await started
    assert [line["error"] and line["error"]["kind"] for line in lines(output)] == [None] * 4 + ["interrupted"]
    assert lines(output)[-1]["usage"]["root_calls"] == 1
    model_server.script("root", [cell("SUBMIT(3)")])
    done = await amap_rows(graph, QUESTION, towns(5), output)
    assert (done.answered, done.skipped, done.job_usage["root_calls"]) == (1, 4, 6)


# The budget of the job


async def test_the_budget_of_calls_holds_over_all_rows_and_starts(direct, model_server, output):
    done = await amap_rows(direct(), QUESTION, towns(50), output, max_calls=7, concurrency=8)
    assert len(model_server.requests) == 7
    assert done.answered == 7
    assert "7 model calls of the job" in done.stopped or "max_calls=7 of the job" in done.stopped
    assert (await amap_rows(direct(), QUESTION, towns(50), output, max_calls=7)).answered == 0
    assert len(model_server.requests) == 7
    done = await amap_rows(direct(), QUESTION, towns(50), output, max_calls=20)
    assert (done.answered, done.skipped, len(model_server.requests)) == (13, 7, 20)
    answered = [line for line in lines(output) if line["error"] is None]
    assert len(answered) == 20
    assert {line["error"]["kind"] for line in lines(output) if line["error"]} <= {"job_budget"}


def test_the_budget_of_dollars_is_never_exceeded_by_rows_at_the_same_time(direct, model_server, output):
    graph = direct(prices={"root": (1_000.0, 1_000.0)}, limits={"max_output_tokens": 100})
    done = map_rows(graph, QUESTION, towns(50), output, max_cost=1.0, concurrency=8)
    assert 0 < done.job_usage["cost"] <= 1.0
    assert 0 < done.answered < 50
    assert "of the job is reached" in done.stopped or "left to the job" in done.stopped
    assert sum(line["usage"]["cost"] for line in lines(output)) == pytest.approx(done.job_usage["cost"])


def test_sub_calls_of_the_rows_count_for_the_job(model_server, chat, sandbox, output):
    code = "try:\n    SUBMIT([llm_query(f'{n}') for n in range(3)])\nexcept SubCallError as error:\n    print(error)"
    model_server.script("root", [cell(code), cell("SUBMIT('done')")])
    model_server.script("sub", lambda messages, request: "x")
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox, parallel="off")
    done = map_rows(graph, "What?", [{"text": "a"}, {"text": "b"}], output, max_calls=6, concurrency=1)
    assert len(model_server.requests) == 6
    assert [line["error"] and line["error"]["kind"] for line in lines(output)] == [None, "job_budget"]
    assert done.stopped
    assert done.job_usage["calls"] + done.job_usage["root_calls"] == 6


def test_a_cost_limit_needs_a_price(direct, output, model_server):
    with pytest.raises(InputError, match="price of model 'root' is unknown"):
        map_rows(direct(), QUESTION, towns(1), output, max_cost=1.0)
    assert not output.exists()
    assert not model_server.requests


# Bad input


@pytest.mark.parametrize(
    ("content", "options", "says"),
    [
        ("", {}, "has no rows"),
        ("\n\n", {}, "has no rows"),
        ('{"name": "a"}\nnonsense\n', {}, "line 2 is not JSON"),
        ('{"name": "a"}\n{"title": "a"}\n', {}, "line 2 has no 'name': it has 'title'"),
        ('{"name": "a"}\n', {"fields": ["text"]}, "line 1 has no 'text'"),
        ('{"name": "a"}\n', {"id": "key"}, "line 1 has no 'key'"),
        (
            '{"name": "a"}\n{"name": "b"}\n{"name": "a"}\n',
            {"id": "name"},
            "line 3 has the id name='a', which an earlier",
        ),
        ('{"name": "a"}\n', {"concurrency": 0}, "concurrency=0"),
        ('{"name": "a"}\n', {"limit": True}, "limit=True"),
        ('{"name": "a"}\n', {"max_cost": "much"}, "max_cost='much'"),
        ('{"name": "a"}\n', {"retries": 3}, "has no argument retries=3"),
    ],
)
def test_what_is_wrong_with_the_data_is_told_before_anything_is_asked(
    direct, model_server, tmp_path, output, content, options, says
):
    data = tmp_path / "rows.jsonl"
    data.write_text(content)
    with pytest.raises(InputError, match=re.escape(says)):
        map_rows(direct(), QUESTION, data, output, **options)
    assert not model_server.requests
    assert not output.exists()


def test_what_is_wrong_in_a_stream_ends_the_job_there(direct, output, tmp_path):
    rows = [*towns(4), {"title": "x"}, *towns(2)]
    with pytest.raises(InputError, match="row 5 has no 'name'"):
        map_rows(direct(), QUESTION, iter(rows), output, concurrency=1)
    assert len(lines(output)) == 4
    with pytest.raises(InputError, match="row 3 has the id name='town-0;'"):
        map_rows(direct(), QUESTION, iter([*towns(2), *towns(1)]), tmp_path / "o.jsonl", concurrency=1, id="name")
    with pytest.raises(InputError, match="does not exist"):
        map_rows(direct(), QUESTION, tmp_path / "none.jsonl", tmp_path / "p.jsonl")
    with pytest.raises(InputError, match="is a directory"):
        map_rows(direct(), QUESTION, tmp_path, tmp_path / "p.jsonl")


def test_an_engine_that_cannot_answer_rows_is_refused(direct, chat, sandbox):
    from langgraph.checkpoint.memory import InMemorySaver

    for given, says in (
        (chat("root"), "give a graph of create_rlm_graph, a ChatRLM, or an RLM"),
        (create_rlm_graph(chat("root"), sandbox=sandbox, checkpointer=InMemorySaver()), "without them for rows"),
        (create_rlm_graph(chat("root"), sandbox=sandbox, inputs={"query": "question"}), "give a graph without inputs="),
        (ChatRLM(model=chat("root"), checkpointer=InMemorySaver()), "without them for rows"),
    ):
        with pytest.raises(InputError, match=says):
            engine_of(given, "Who?", None)
    with pytest.raises(InputError, match="question=None"):
        engine_of(direct(), None, None)


def test_a_full_disk_ends_the_job(direct):
    with pytest.raises(OutputError, match="No space left"):
        map_rows(direct(), QUESTION, towns(50), "/dev/full", concurrency=1)


def test_paths_and_names_in_rows_are_text(direct, model_server, chat, sandbox, output, tmp_path):
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    model_server.script("root", [cell("SUBMIT(context)")])
    rows = [{"id": "../../x", "text": str(secret), "rlm_context": "c"}]
    map_rows(create_rlm_graph(chat("root"), sandbox=sandbox), "Who?", rows, output, id="id")
    assert lines(output)[0]["answer"] == rows[0]
    assert lines(output)[0]["id"] == "../../x"
    assert {one.name for one in tmp_path.iterdir()} == {"secret.txt", "out.jsonl", "out.jsonl.asked"}


def test_memory_does_not_grow_with_the_rows(direct, output):
    count = 4_000
    graph = direct()
    asked = {**engine_of(graph, QUESTION, None).describe(), "id": "name"}
    output.write_bytes(b"".join(Answer(id=f"town-{n};", answer="x" * 200).line() for n in range(count)))
    write_asked(output, asked)
    tracemalloc.start()
    try:
        done = map_rows(graph, QUESTION, ({"name": f"town-{n};"} for n in range(count + 5)), output, id="name")
        assert (done.skipped, done.answered) == (count, 5)
        peak = tracemalloc.get_traced_memory()[1]
        assert peak < 1_500_000  # of 2 MB of lines
    finally:
        tracemalloc.stop()
    assert len(lines(output)) == count + 5


def test_a_job_that_was_cancelled_or_refused_gives_its_file_free(direct, output):
    with pytest.raises(InputError):
        map_rows(direct(), QUESTION, iter([{"title": 1}]), output)
    open_answers(output, {**engine_of(direct(), QUESTION, None).describe(), "id": None}).close()


async def test_nothing_blocks_the_event_loop(model_server, chat, output, tmp_path):
    from blockbuster import blockbuster_ctx

    model_server.script("root", [cell("SUBMIT(len(context))")])
    data = tmp_path / "rows.jsonl"
    data.write_text("".join(json.dumps({"text": "x" * 100_000}) + "\n" for _ in range(3)))
    model = chat("root")
    with blockbuster_ctx():
        graph = create_rlm_graph(model, prices={"root": (1.0, 1.0)})
        for ordered in (False, True):
            target = output.with_suffix(f".{ordered}")
            done = await amap_rows(graph, "How long?", data, target, fields="text", max_cost=1.0, ordered=ordered)
            assert (done.answered, done.stopped) == (3, None)
    graph.close()


# Other front doors


async def test_a_chat_model_answers_rows(model_server, chat, sandbox, output):
    model_server.script("root", river)
    model = ChatRLM(model=chat("root"), sandbox=sandbox, limits={"max_retries": 0})
    done = await amap_rows(model, QUESTION, towns(5), output, max_calls=4, concurrency=1)
    assert sorted(line["answer"] for line in lines(output) if line["error"] is None) == [
        f"river-{number}" for number in range(4)
    ]
    assert done.stopped
    assert all(line["run_id"] and line["usage"]["root_calls"] == 1 for line in lines(output) if not line["error"])
    model_server.script("root", [cell("SUBMIT(context['text'])")])
    other = output.with_name("other.jsonl")
    run = ChatRLM(model=chat("root"), sandbox=sandbox, direct_below=0)
    await amap_rows(run, QUESTION, towns(3), other, ordered=True)
    assert [line["answer"] for line in lines(other)] == [f"It lies at river-{number}." for number in range(3)]
    with pytest.raises(InputError, match="started with the question"):
        await amap_rows(run, "Another?", towns(3), other)


def test_a_dspy_module_answers_rows(model_server, sandbox, output):
    import dspy

    from rlm_adapters import RLM

    step = "[[ ## reasoning ## ]]\nCount.\n\n[[ ## code ## ]]\n```python\nSUBMIT(count=len(text), last=text[-1])\n```\n\n[[ ## completed ## ]]"
    model_server.script("root", lambda messages, request: step)
    lm = dspy.LM("openai/root", api_base=model_server.url, api_key="test", cache=False, num_retries=0)
    with dspy.context(lm=lm):
        module = RLM("text, name -> count: int, last: str", sandbox=sandbox)
        done = map_rows(module, None, towns(4), output, ordered=True, max_calls=3, concurrency=1)
        assert [line["answer"] for line in lines(output)[:3]] == [{"count": 19, "last": "."}] * 3
        assert done.stopped
        assert done.job_usage["root_calls"] == len(model_server.requests) == 3
        assert map_rows(module, None, towns(4), output).answered == 1
        with pytest.raises(InputError, match="row 1 has no 'text'"):
            map_rows(module, None, iter([{"name": "a"}]), output.with_name("other.jsonl"))
        with pytest.raises(InputError, match="the signature of an RLM says what is asked"):
            map_rows(module, "Who?", towns(1), output)
        with pytest.raises(InputError, match="started with the"):
            map_rows(RLM("text, name -> count: int", sandbox=sandbox), None, towns(1), output)
