"""An orchestration in Python that calls an activity of a WebAssembly component and one of its own."""

import argparse

from durabletask import task


def postcards(ctx: task.OrchestrationContext, cities: list[str]):
    # The hub runs SayHello in its sandbox: hello-sequence, which is deployed there, defines it.
    greetings = yield task.when_all([ctx.call_activity("SayHello", input=city) for city in cities])
    return (yield ctx.call_activity(sign, input=greetings))


def sign(ctx: task.ActivityContext, greetings: list[str]) -> list[str]:
    return [f"{greeting} Yours, Python" for greeting in greetings]


def connection() -> dict:
    """Address and hub, from the command line; the SDK sends the hub's name with each call."""
    parser = argparse.ArgumentParser()
    parser.add_argument("address", nargs="?", default="localhost:7071")
    parser.add_argument("--hub", default="default")
    given = parser.parse_args()
    return {"host_address": given.address, "metadata": [("taskhub", given.hub)]}
