"""A model by name has a client that works on every event loop, and is closed with each of them, without a word."""

import subprocess
import sys
import textwrap

import pytest

from rlm_adapters.models.providers import chat_model

PROGRAM = """
import asyncio, gc, sys, threading
from langchain_openai import ChatOpenAI
from rlm_adapters.models.transport import aiohttp_client

model = ChatOpenAI(model="root", base_url=sys.argv[1], api_key="k", http_async_client=aiohttp_client())


async def calls(count):
    return [one.text for one in await asyncio.gather(*(model.ainvoke("q") for _ in range(count)))]


def keepers():
    return model.http_async_client._keepers


"""

ENDS = {
    "asyncio.run, several times": """
        for _ in range(3):
            assert asyncio.run(calls(3)) == ["hello"] * 3
        assert len(keepers()) == 1, "closed loops are forgotten"
    """,
    "a loop that is closed at once": """
        for _ in range(3):
            loop = asyncio.new_event_loop()
            assert loop.run_until_complete(calls(3)) == ["hello"] * 3
            loop.close()
        assert len(keepers()) == 1
    """,
    "a loop that is never closed": """
        loop = asyncio.new_event_loop()
        assert loop.run_until_complete(calls(3)) == ["hello"] * 3
    """,
    "a model that nobody needs any more": """
        async def main():
            global model
            await calls(3)
            model = None
            for _ in range(5):
                gc.collect()
                await asyncio.sleep(0.01)

        asyncio.run(main())
    """,
    "loops in several threads": """
        threads = [threading.Thread(target=lambda: asyncio.run(calls(3))) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert asyncio.run(calls(3)) == ["hello"] * 3
    """,
    "a call that is cancelled": """
        async def main():
            task = asyncio.create_task(calls(3))
            await asyncio.sleep(0.001)
            task.cancel()
            return await calls(2)

        assert asyncio.run(main()) == ["hello"] * 2
    """,
}


@pytest.mark.parametrize("body", ENDS.values(), ids=ENDS)
def test_nothing_is_said_about_connections_whatever_becomes_of_the_loop(body, model_server):
    model_server.script("root", lambda messages, request: "hello")
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM + textwrap.dedent(body), model_server.url],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


async def test_calls_on_one_loop_share_their_connections(model_server):
    model_server.script("root", lambda messages, request: "hello")
    for _ in range(5):  # also those of models that are made for each call
        await chat_model("openai:root", base_url=model_server.url, api_key="k").ainvoke("q")
    assert len({request.peer for request in model_server.requests}) == 1


async def test_a_model_works_although_somebody_has_closed_the_shared_client(model_server):
    model_server.script("root", lambda messages, request: "hello")
    for _ in range(2):
        model = chat_model("openai:root", base_url=model_server.url, api_key="k")
        assert (await model.ainvoke("q")).text == "hello"
        await model.http_async_client.aclose()


def test_a_model_by_name_works_without_an_event_loop_as_well(model_server):
    model_server.script("root", lambda messages, request: "hello")
    assert chat_model("openai:root", base_url=model_server.url, api_key="k").invoke("q").text == "hello"
