"""Payloads: given back as the very text they were, whatever it is."""

import asyncio
import json

from durabletask.client import AsyncTaskHubGrpcClient

from google.protobuf.wrappers_pb2 import StringValue
from harness import LARGE, QUIET, Status, equal, holds, pb, scenario

FALSY = [0, "", False, None, [], {}, 0.0]


@scenario
def falsy_inputs_and_outputs(hub):
    def echo_activity(ctx, value):
        return value

    def echoes(ctx, value):
        return (yield ctx.call_activity(echo_activity, input=value))

    with hub.worker([echoes], [echo_activity]):
        for value in FALSY:
            state = hub.end(hub.start(echoes, value))
            equal(state.runtime_status, Status.COMPLETED)
            equal(json.dumps(state.get_output()), json.dumps(value), "the output")
            equal(json.dumps(state.get_input()), json.dumps(value), "the input")


@scenario
def falsy_events_and_custom_statuses(hub):
    def echoes(ctx, count):
        found = []
        for _ in range(count):
            found.append((yield ctx.wait_for_external_event("value")))
        ctx.set_custom_status(0)
        return found

    with hub.worker([echoes]):
        instance_id = hub.start(echoes, len(FALSY))
        for value in FALSY:
            hub.client.raise_orchestration_event(instance_id, "value", data=value)
        state = hub.end(instance_id)
        equal(json.dumps(state.get_output()), json.dumps(FALSY))
        equal(state.serialized_custom_status, "0", "the custom status")


@scenario
def texts_that_are_not_json_stay_as_they_are(hub):
    """The protocol carries texts: absent, empty and null differ, and none of them needs to be JSON."""

    def ignores(ctx, _):
        return None

    name = hub.named(ignores)[0].__name__
    texts = [None, "", "null", " { \"b\" : 1, \"a\": 2.50 } ", "no JSON", "\"\\u0000x\"", "1e400", "12345678901234567890123", "\ud7ff\n\t"]
    with hub.stub() as stub:
        for number, text in enumerate(texts):
            instance_id = hub.id(f"text{number}")
            given = None if text is None else StringValue(value=text)
            stub.StartInstance(pb.CreateInstanceRequest(instanceId=instance_id, name=name, input=given))
            found = stub.GetInstance(pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True)).orchestrationState
            equal(found.input.value if found.HasField("input") else None, text, f"the input {number}")
            stub.TerminateInstance(pb.TerminateRequest(instanceId=instance_id, output=given))
            ended = stub.WaitForInstanceCompletion(pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True))
            output = ended.orchestrationState
            equal(output.output.value if output.HasField("output") else None, text, f"the output {number}")


@scenario
def payloads_are_left_out_on_request(hub):
    def tells(ctx, value):
        ctx.set_custom_status("busy")
        return value

    with hub.worker([tells]):
        instance_id = hub.start(tells, "in and out")
        hub.end(instance_id)
        state = hub.client.get_orchestration_state(instance_id, fetch_payloads=False)
        equal([state.serialized_input, state.serialized_output, state.serialized_custom_status], [None] * 3)
        state = hub.client.get_orchestration_state(instance_id, fetch_payloads=True)
        equal([state.get_input(), state.get_output(), state.get_custom_status()], ["in and out", "in and out", "busy"])


@scenario(alone=True)
def payload_of_twenty_megabytes(hub):
    def measures(ctx, text):
        return len(text)

    def carries(ctx, text):
        length = yield ctx.call_activity(measures, input=text)
        return [length, text]

    text = "0123456789abcdef" * (20 << 16)
    with hub.worker([carries], [measures]):
        length, back = hub.output(carries, text)
        equal(length, len(text), "the length in the activity")
        holds(back == text, "the text came back changed")


@scenario
def unicode_everywhere(hub):
    text = "日本語 \U0001f980 \u0000 \u202e ß"

    def echoes(ctx, value):
        ctx.set_custom_status(value)
        event = yield ctx.wait_for_external_event("ünï")
        return [value, event]

    with hub.worker([echoes]):
        instance_id = hub.start(echoes, text, tags={"schlüssel": "wért"}, instance_id=hub.id("größe-日本"))
        hub.client.raise_orchestration_event(instance_id, "ÜNÏ", data=text)
        state = hub.end(instance_id)
        equal(state.get_output(), [text, text])
        equal(state.get_custom_status(), text)


@scenario
def asynchronous_client(hub):
    def waits(ctx, value):
        return [value, (yield ctx.wait_for_external_event("go"))]

    async def uses():
        async with AsyncTaskHubGrpcClient(
            host_address=hub.address, metadata=hub.metadata, channel_options=LARGE, logger=QUIET
        ) as client:
            instance_id = await client.schedule_new_orchestration(waits, input=1, instance_id=hub.id("async"))
            await client.wait_for_orchestration_start(instance_id, timeout=20)
            await client.suspend_orchestration(instance_id)
            await client.resume_orchestration(instance_id)
            await client.raise_orchestration_event(instance_id, "go", data=2)
            state = await client.wait_for_orchestration_completion(instance_id, timeout=20)
            events = await client.get_orchestration_history(instance_id)
            purged = await client.purge_orchestration(instance_id)
            return state.get_output(), len(events), purged.deleted_instance_count

    with hub.worker([waits]):
        output, events, purged = asyncio.run(uses())
        equal(output, [1, 2])
        holds(events >= 5, f"{events} events in the history")
        equal(purged, 1, "the purged instances")
