"""`RaySandbox`: sessions on the nodes of a real cluster."""

import asyncio
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from blockbuster import blockbuster_ctx

pytest.importorskip("ray")

from rlm_adapters import RLM, ChatRLM, InputError, Limits, RaySandbox, SandboxLimits, create_rlm_graph
from rlm_adapters.errors import SandboxError
from rlm_adapters.sandbox import Executor, Failure, FileVariable, HostFunction, LaterInputs, Pending, Value
from tests.cluster.nodes import until
from tests.server import by_question, cell, text_of, turn_of

pytestmark = pytest.mark.ray
RUNS = int(os.environ.get("RAY_RUNS", "24"))
ASK = HostFunction(name="ask", effects=False, parameters=("prompt",))
ASK_ALL = HostFunction(name="ask_all", effects=False, batch_of="ask")
TOOL = HostFunction(name="tool")
CELLS = (
    "print(len(context), numbers, blob[:3], table['a'][0])",
    "print(open('notes.txt').read(), len(open('big.bin', 'rb').read()))",
    "words = [ask(f'word {i}') for i in range(20)]\nprint(words)",
    "print(ask_all(['a', 'b']))",
    "import random, time\nprint(random.random(), time.time())",
    "1 / 0",
    "import os\nos.system('ls')",
    "try:\n    tool('boom')\nexcept Exception as error:\n    print(type(error).__name__, error)",
    "print(len(words)); SUBMIT(count=len(context), words=words[:2])",
)


def inputs():
    return {
        "variables": {
            "context": "käse " * 60_000,
            "numbers": [1, 2.5, None],
            "blob": b"\x00\x01" * 50_000,
            "table": {"a": ["x" * 100] * 2_000, "b": b"bytes"},
        },
        "files": {"notes.txt": b"small", "big.bin": b"\x07" * 200_000},
        "functions": (ASK, ASK_ALL, TOOL),
        "output_fields": ("count", "words"),
        "seed": 7,
        "epoch": 1_700_000_000.0,
    }


def answer(call):
    return Failure("it is broken") if call.function == "tool" else Value(f"<{call.args[0]}>")


def run(session, code):
    """Run a cell; gives its end, and the ids of the calls of each wave."""
    waves = []
    step = session.start(code)
    while isinstance(step, Pending):
        waves.append([call.id for call in step.calls])
        step = session.resume({call.id: answer(call) for call in step.calls})
    return step, waves


def told(done):
    return (done.stdout, done.error, done.final, done.variables, done.ahead_calls, done.ahead_wasted)


def test_cells_end_as_in_a_sandbox_here_and_with_the_same_journal(far, sandbox):
    assert isinstance(far, Executor)
    with far.open(**inputs()) as there, sandbox.open(**inputs()) as here:
        for code in CELLS:
            (done, waves), (expected, expected_waves) = run(there, code), run(here, code)
            assert (told(done), waves) == (told(expected), expected_waves)
        assert there.journal == here.journal
        assert [len(wave) for wave in run(there, CELLS[2])[1]] == [20], "all calls of the loop were found ahead"
        journal = there.journal
    with far.open(**inputs(), journal=journal) as again:
        assert run(again, "print(len(words))")[0].stdout == "20\n"


def test_inputs_that_come_later_and_files_of_the_caller_arrive(far, tmp_path):
    path = tmp_path / "text"
    path.write_text("ab" * 100_000)
    later = [LaterInputs(after=1, variables={"context": "new", "more": "m" * 100_000}, epoch=1_700_000_100.0)]
    with far.open(variables={"context": FileVariable(path=path)}, files={"t.txt": path}, later=later) as session:
        assert run(session, "print(len(context), len(open('t.txt').read()))")[0].stdout == "200000 200000\n"
        assert run(session, "print(context, len(more))")[0].stdout == "new 100000\n"
    with pytest.raises(InputError, match="cannot be read"):
        far.open(variables={"context": FileVariable(path=tmp_path / "none")})
    with pytest.raises(InputError, match="cannot be handed over"):
        far.open(variables={"context": object()})


def test_the_same_input_of_many_sessions_is_put_into_the_object_store_once(far, monkeypatch, tmp_path):
    put, kept = [], far._library.put
    monkeypatch.setattr(far._library, "put", lambda value: (put.append(value), kept(value))[1])
    for number in range(2):
        (tmp_path / f"{number}").write_text("same content" * 50_000)
    sessions = [far.open(variables={"c": FileVariable(path=tmp_path / f"{number % 2}")}) for number in range(9)]
    assert {run(session, "print(len(c))")[0].stdout for session in sessions} == {"600000\n"}
    assert len(put) == 1
    assert len({node for node, count in far.sessions() if count}) == 3, "they are spread over the nodes"
    for session in sessions:
        session.close()


def test_a_limit_ends_the_cell_and_the_session_goes_on(far):
    with far.open(functions=(ASK,)) as session:
        run(session, "x = 1")
        run(session, "x = 2")
        assert run(session, "x = [0] * 10**10")[0].error.kind == "memory"
        assert run(session, "print(x)")[0].stdout == "2\n"


def test_a_killed_session_ends_its_cell_and_is_rebuilt(far):
    with far.open(functions=(ASK,)) as session:
        run(session, "x = ask('once')")
        with ThreadPoolExecutor(1) as pool:
            running = pool.submit(session.start, "while True: pass")
            time.sleep(0.5)
            session.kill()
            with pytest.raises(SandboxError, match="killed while a cell was running"):
                running.result(30)
        assert run(session, "print(x)")[0].stdout == "<once>\n"
    with pytest.raises(SandboxError, match="closed"):
        session.start("1")


async def test_a_cancelled_cell_ends_its_worker_and_the_session_goes_on(far):
    session = await asyncio.to_thread(far.open, variables={"x": 5})
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(session.astart("while True: pass"), 0.5)
    assert (await session.astart("print(x)")).stdout == "5\n"
    session.close()
    await asyncio.to_thread(until, lambda: not sum(count for _, count in far.sessions()))


def test_a_session_that_waits_gives_way_and_goes_on_later(nodes):
    with RaySandbox(address=nodes.address, num_cpus=0, actors=1, sessions_per_actor=2) as sandbox:
        sessions = [sandbox.open(variables={"n": number}, functions=(ASK,)) for number in range(5)]
        steps = [session.start("m = ask(f'q{n}')\nprint(n, m)") for session in sessions]
        assert sum(count for _, count in sandbox.sessions()) == 2
        for number, (session, step) in enumerate(zip(sessions, steps, strict=True)):
            done = session.resume({call.id: answer(call) for call in step.calls})
            assert done.stdout == f"{number} <q{number}>\n"
            assert run(session, "print(m)")[0].stdout == f"<q{number}>\n"


def test_a_cell_waits_for_a_place_and_no_longer_than_it_was_told(nodes):
    limits = SandboxLimits(cpu_seconds=6.0)
    with RaySandbox(
        address=nodes.address, num_cpus=0, actors=1, sessions_per_actor=1, wait_seconds=1, limits=limits
    ) as sandbox:
        first = sandbox.open()
        busy = threading.Thread(target=first.start, args=("while True: pass",))
        busy.start()
        time.sleep(0.5)
        with pytest.raises(
            SandboxError, match="all 1 places of the cluster ran cells for 1 s: give RaySandbox more actors"
        ):
            sandbox.open()
        busy.join(60)
        assert run(sandbox.open(), "print('free')")[0].stdout == "free\n"


# -- runs


def scripts(server):
    """A run of two cells: one that asks three sub-LMs of its own text, and one that hands in what they said."""

    def root(messages, request):
        first = "parts = [llm_query(f'double {int(context) + i}') for i in range(3)]\nprint(len(parts))"
        return [cell(first), cell("SUBMIT(sum(int(part) for part in parts))")][turn_of(messages)]

    server.script("root", root)
    server.script(
        "sub", lambda messages, request: str(2 * int(text_of(messages[-1]).rsplit("double ", 1)[1].split()[0]))
    )


def expected(number):
    return sum(2 * (10 * number + i) for i in range(3))


def asked_of(server):
    return Counter(record.prompt for record in server.requests if record.model == "sub")


async def test_runs_go_on_when_a_node_is_killed_and_nothing_is_asked_again(nodes, model_server, chat):
    scripts(model_server)
    model_server.latency = 0.1
    with RaySandbox(address=nodes.address, num_cpus=0.5, actors=3) as sandbox:
        graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=sandbox)
        await asyncio.to_thread(lambda: sandbox.isolation)
        await asyncio.to_thread(until, lambda: len(sandbox.sessions()) == 3)
        places = asyncio.Semaphore(16)

        async def one(number):
            async with places:
                return await graph.ainvoke({"query": "Sum?", "context": str(10 * number)})

        tasks = [asyncio.create_task(one(number)) for number in range(RUNS)]
        await asyncio.to_thread(until, lambda: len(model_server.requests) >= 2 * RUNS)
        spread = sandbox.sessions()
        killed = await asyncio.to_thread(nodes.kill)
        results = await asyncio.gather(*tasks)
        try:
            assert [result["answer"] for result in results] == [expected(number) for number in range(RUNS)]
            assert sum(count > 0 for _, count in spread) == 3, spread
            assert dict(spread)[killed] > 0
            assert killed not in dict(sandbox.sessions())
            assert set(asked_of(model_server).values()) == {1}
            assert len(model_server.requests) == 5 * RUNS
        finally:
            graph.close()
            nodes.add()  # registers a handler of signals, which the main thread must do


async def test_nothing_blocks_the_event_loop(far, model_server, chat):
    model_server.script("root", [cell("x = llm_query(context[:5])\nprint(x)"), cell("SUBMIT(x + 'b' * 100_000)")])
    model_server.script("sub", lambda messages, request: "a" * 100_000)
    graph = create_rlm_graph(chat("root"), chat("sub"), sandbox=far)
    await graph.ainvoke({"query": "warm", "context": "c" * 100_000})
    with blockbuster_ctx("rlm_adapters.cluster"):
        result = await graph.ainvoke({"query": "How?", "context": "c" * 100_000})
    assert result["answer"] == "a" * 100_000 + "b" * 100_000


def test_children_chat_models_and_modules_run_there(far, model_server, chat):
    child = [cell("SUBMIT('from the child')")]
    model_server.script("root", by_question({"say it": child}, default=[cell("SUBMIT(rlm_query('say it'))")]))
    model = ChatRLM(model=chat("root"), sandbox=far, direct_below=0, limits=Limits(max_depth=2))
    assert model.invoke("Ask somebody.").content == "from the child"


def test_a_dspy_module_runs_there(far, model_server):
    import dspy

    step = "[[ ## reasoning ## ]]\nr\n\n[[ ## code ## ]]\n```python\nSUBMIT(count=len(text.split()))\n```\n\n[[ ## completed ## ]]"
    model_server.script("root", lambda messages, request: step)
    lm = dspy.LM("openai/root", api_base=model_server.url, api_key="test", cache=False)
    with dspy.context(lm=lm):
        assert RLM("text -> count: int", sandbox=far)(text="one two three").count == 3


# -- what is wrong with a cluster is said


def test_a_cluster_that_cannot_be_reached_is_told_of_in_time(nodes):
    script = (
        "import sys, time\nfrom rlm_adapters import RaySandbox\n"
        "began = time.monotonic()\n"
        "try:\n    RaySandbox(address=sys.argv[1], connect_seconds=3).open()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
        "print(time.monotonic() - began < 30)"
    )
    with socket.create_server(("127.0.0.1", 0)) as mute:
        port = mute.getsockname()[1]
        for address, says in (
            (
                "127.0.0.1:1",
                "ClusterError the cluster at 127.0.0.1:1 cannot be reached within 3 s (Connection refused): check",
            ),
            ("ray://127.0.0.1:1", "ClusterError the cluster at ray://127.0.0.1:1 cannot be reached within 3 s"),
            (
                f"127.0.0.1:{port}",
                f"ClusterError the cluster at 127.0.0.1:{port} did not accept this process within 3 s",
            ),
            ("nonsense", "InputError address='nonsense': give"),
        ):
            done = subprocess.run(
                [sys.executable, "-c", script, address], capture_output=True, text=True, timeout=120, check=False
            )
            assert done.stdout.startswith(says), done
            assert done.stdout.endswith("True\n"), done


def test_a_process_is_in_one_cluster(far):
    with pytest.raises(InputError, match=r"this process is in the cluster .* already"):
        RaySandbox(address="10.0.0.1:6379").open()


def test_nodes_with_another_version_or_none_are_told_of(nodes, tmp_path):
    import rlm_adapters

    package = Path(rlm_adapters.__file__).parent
    other = tmp_path / "other" / "rlm_adapters"
    shutil.copytree(package, other, ignore=shutil.ignore_patterns("__pycache__"))
    initial = other / "__init__.py"
    initial.write_text(
        initial.read_text().replace(f'__version__ = "{rlm_adapters.__version__}"', '__version__ = "9.9"')
    )
    none = tmp_path / "none" / "rlm_adapters.py"
    none.parent.mkdir()
    none.write_text("raise ModuleNotFoundError(\"No module named 'rlm_adapters'\", name='rlm_adapters')\n")
    # In a process of its own: Ray would have its actors look for modules beside this one's first.
    script = tmp_path / "open.py"
    script.write_text(
        "import sys\nfrom rlm_adapters import RaySandbox\n"
        "environment = {'env_vars': {'PYTHONPATH': sys.argv[2]}}\n"
        "try:\n    RaySandbox(address=sys.argv[1], num_cpus=0, actors=1, runtime_env=environment).open()\n"
        "except Exception as error:\n    print(type(error).__name__, error)\n"
    )
    for place, says in (
        (
            other.parent,
            (
                f"StartError this process has rlm-adapters {rlm_adapters.__version__}, the nodes of the cluster have 9.9: "
                "install the same version there, or give runtime_env="
            ),
        ),
        (
            none.parent,
            "StartError the nodes of the cluster have no rlm-adapters: install the same version there, or give",
        ),
    ):
        done = subprocess.run(
            [sys.executable, script, nodes.address, place],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            cwd=tmp_path,
        )
        assert done.stdout.startswith(says), done


def test_no_room_and_options_that_make_no_sense_are_told_of(nodes):
    with (
        RaySandbox(address=nodes.address, num_cpus=64, actors=1, start_seconds=2) as sandbox,
        pytest.raises(SandboxError, match=r"no actor came to life within 2 s: each asks for {'num_cpus': 64}"),
    ):
        sandbox.open()
    for options, says in (
        ({"actors": 0}, "actors=0: give a whole number"),
        ({"num_cpus": -1}, "num_cpus=-1: give"),
        ({"wait_seconds": 0}, "wait_seconds=0: give seconds"),
        ({"address": ""}, "address='': give"),
        ({"require": "kernel"}, "require='kernel' is unknown"),
    ):
        with pytest.raises(InputError, match=says):
            RaySandbox(**options)
    with RaySandbox(scheduling_strategy=3, num_cpus=0) as sandbox, pytest.raises(InputError, match="Ray refuses"):
        sandbox.open()


def test_a_closed_sandbox_says_so(nodes):
    sandbox = RaySandbox(address=nodes.address, num_cpus=0, actors=1)
    session = sandbox.open()
    sandbox.close()
    sandbox.close()
    with pytest.raises(SandboxError, match="closed"):
        session.start("1")
    with pytest.raises(SandboxError, match="closed"):
        sandbox.open()


@pytest.mark.parametrize(("parallel", "ahead"), [("ahead", True), ("stream", True), ("off", False)])
def test_every_choice_but_off_runs_ahead(parallel, ahead):
    with RaySandbox(parallel=parallel) as sandbox:
        assert sandbox.ahead_account().enabled is ahead
