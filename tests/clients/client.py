"""Every operation of the published Python client, against a running host: `client.py http://127.0.0.1:PORT`."""

import asyncio
import pathlib
import sys
from datetime import datetime, timedelta, timezone

import azure.durable_functions as df
from azure.durable_functions.models.OrchestrationRuntimeStatus import OrchestrationRuntimeStatus as Status
from azure.durable_functions.models.utils import http_utils


def connect(origin: str) -> df.DurableOrchestrationClient:
    binding = pathlib.Path(__file__).with_name("binding.json").read_text()
    base = f"{origin}/runtime/webhooks/durabletask"
    return df.DurableOrchestrationClient(binding.replace("BASE", base).replace("ORIGIN", origin))


async def until(client, instance_id: str, *wanted: Status):
    """Asks until the instance has one of these statuses."""
    for _ in range(600):
        status = await client.get_status(instance_id)
        if status.runtime_status in wanted:
            return status
        await asyncio.sleep(0.05)
    raise AssertionError(f"{instance_id} is {status.runtime_status}, not {wanted}")


async def refused(operation, words: str) -> None:
    try:
        await operation
    except Exception as error:  # the client raises nothing more precise
        assert words in str(error), f"{error!r} does not say {words!r}"
        return
    raise AssertionError(f"it was not refused with {words!r}")


async def starts(client) -> None:
    assert await client.start_new("HelloSequence", "py-hello") == "py-hello"
    made_up = await client.start_new("Sleep", client_input={"a": 1})
    assert len(made_up) == 32, made_up
    # The client encodes the input twice; a dict is a dict all the same.
    assert (await client.get_status(made_up, show_input=True)).input_ == {"a": 1}
    hello = await until(client, "py-hello", Status.Completed)
    assert hello.output == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"], hello.output
    assert hello.name == "HelloSequence" and hello.created_time <= hello.last_updated_time
    await client.start_new("Wait", "py-taken")
    await refused(client.start_new("Wait", "py-taken"), "already exists")
    await refused(client.start_new("NoSuchThing"), "NoSuchThing")
    await client.terminate("py-taken", "enough")


async def statuses(client) -> None:
    shown = await client.get_status("py-hello", show_history=True, show_history_output=True, show_input=True)
    kinds = [event["EventType"] for event in shown.historyEvents]
    assert kinds == ["ExecutionStarted", "TaskCompleted", "TaskCompleted", "TaskCompleted", "ExecutionCompleted"], kinds
    assert shown.historyEvents[1]["Result"] == "Hello Tokyo!"
    assert (await client.get_status("py-nobody")).runtime_status is None
    ids = {status.instance_id for status in await client.get_status_all()}
    assert {"py-hello", "py-taken"} <= ids, ids
    hour = timedelta(hours=1)
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    found = await client.get_status_by(now - hour, now + hour, [Status.Completed, Status.Running])
    assert "py-hello" in {status.instance_id for status in found}
    assert await client.get_status_by(now + hour, now + 2 * hour, [Status.Completed]) == []


async def commands(client) -> None:
    await client.start_new("Wait", "py-wait")
    await until(client, "py-wait", Status.Running)
    await client.suspend("py-wait", "hold on")
    held = await until(client, "py-wait", Status.Suspended)
    assert held.output == "hold on", held.output
    await client.resume("py-wait", "go on")
    await until(client, "py-wait", Status.Running)
    await client.raise_event("py-wait", "Go", "now")
    ended = await until(client, "py-wait", Status.Completed)
    # The client encodes the data twice; a text is a text all the same.
    assert ended.output == "now", ended.output
    await refused(client.raise_event("py-nobody", "Go", 1), "No instance with ID")
    await client.start_new("Wait", "py-over")
    await client.terminate("py-over", "why not")
    assert (await until(client, "py-over", Status.Terminated)).output == "why not"
    await refused(client.terminate("py-nobody", "x"), "No instance with ID")


async def typed(client) -> None:
    """What an orchestration declares of its input and its events is what a client gives it."""
    await client.start_new("Approve", "py-approve", {"purpose": "a new chair"})
    await until(client, "py-approve", Status.Running)
    await client.raise_event("py-approve", "Decision", {"approved": True, "by": "Ann"})
    ended = await until(client, "py-approve", Status.Completed, Status.Failed)
    assert ended.output == {"approved": True, "by": "Ann", "escalated": False}, ended.output
    counted = await client.start_new("CountEvents", client_input=2)
    for number in [7, 8]:
        await client.raise_event(counted, "go", number)
    assert (await until(client, counted, Status.Completed, Status.Failed)).output == [7, 8]
    for value in ["now", "", "17", '{"a": 1}', "null"]:
        told = await client.start_new("Wait")
        await client.raise_event(told, "Go", value)
        ended = await until(client, told, Status.Completed, Status.Failed)
        assert ended.output == value and ended.runtime_status == Status.Completed, (value, ended.output)


async def again(client) -> None:
    await client.start_new("RunsFailing", "py-failed")
    failed = await until(client, "py-failed", Status.Failed)
    assert failed.output == "Orchestrator function 'RunsFailing' failed: the card was declined", failed.output
    await client.rewind("py-failed", "try again")
    await until(client, "py-failed", Status.Failed)
    await refused(client.rewind("py-nobody", "x"), "No instance with ID")
    await refused(client.rewind("py-hello", "x"), "Failed")
    before = (await client.get_status("py-hello")).created_time
    await client.restart("py-hello", restart_with_new_instance_id=False)
    assert (await until(client, "py-hello", Status.Completed)).created_time >= before
    await client.restart("py-hello")


async def purges(client) -> None:
    assert (await client.purge_instance_history("py-wait")).instances_deleted == 1
    assert (await client.purge_instance_history("py-wait")).instances_deleted == 0
    hour = timedelta(hours=1)
    now = datetime.now(timezone.utc).replace(tzinfo=None)
    over = [Status.Terminated]
    assert (await client.purge_instance_history_by(now - hour, now + hour, over)).instances_deleted >= 1
    assert (await client.purge_instance_history_by(now - hour, now + hour, over)).instances_deleted == 0


async def main(origin: str) -> None:
    client = connect(origin)
    for part in [starts, statuses, commands, typed, again, purges]:
        await part(client)
        print(f"  {part.__name__}: ok")
    await http_utils._close_session()


asyncio.run(main(sys.argv[1]))
