"""A host that is killed: the worker connects again, and each instance goes on."""

import time
from datetime import timedelta

from durabletask import task

from harness import Host, Hub, Status, equal, holds, scenario, until


def again(call):
    """Makes a call until the host is there again."""
    end = time.monotonic() + 15
    while True:
        try:
            return call()
        except Exception:
            holds(time.monotonic() < end, "the host is back within 15 s")
            time.sleep(0.1)


@scenario(needs="serve", alone=True)
def host_killed_in_the_middle(hub):
    calls = {}

    def works(ctx, number):
        calls[number] = calls.get(number, 0) + 1
        time.sleep(0.05)
        return number

    def steps(ctx, count):
        found = []
        for number in range(count):
            found.append((yield ctx.call_activity(works, input=number)))
        yield ctx.create_timer(timedelta(milliseconds=200))
        event = yield ctx.wait_for_external_event("go")
        return [sum(found), event]

    with Host(hub.serve) as host:
        own = Hub(host.listen, hub.name, hub.scenario)
        with own.worker([steps], [works]):
            ids = [own.start(steps, 30) for _ in range(4)]
            until("some work is done", lambda: sum(calls.values()) > 30)
            host.kill()
            host.up()
            for instance_id in ids:
                again(lambda: own.client.raise_orchestration_event(instance_id, "go", data=instance_id))
            for instance_id in ids:
                state = own.end(instance_id)
                equal(state.runtime_status, Status.COMPLETED)
                equal(state.get_output(), [435, instance_id])
            holds(sum(calls.values()) < 4 * 30 + 40, f"{sum(calls.values())} calls of 120 activities")


@scenario(needs="serve", alone=True)
def host_killed_while_everything_waits(hub):
    def waits(ctx, _):
        timer = ctx.create_timer(timedelta(seconds=2))
        first = yield ctx.wait_for_external_event("one")
        yield timer
        return first

    def parent(ctx, _):
        kids = [ctx.call_sub_orchestrator(waits, instance_id=f"{ctx.instance_id}-{number}") for number in range(5)]
        return (yield task.when_all(kids))

    with Host(hub.serve) as host:
        own = Hub(host.listen, hub.name, hub.scenario)
        with own.worker([parent, waits]):
            instance_id = own.start(parent)
            kids = [f"{instance_id}-{number}" for number in range(5)]
            until("the children run", lambda: all(own.status(kid) == Status.RUNNING for kid in kids))
            own.client.raise_orchestration_event(kids[0], "one", data=0)
            own.client.suspend_orchestration(kids[4])
            host.kill()
            host.up()
            again(lambda: own.client.resume_orchestration(kids[4]))
            for number in range(1, 5):
                again(lambda: own.client.raise_orchestration_event(kids[number], "one", data=number))
            equal(own.end(instance_id).get_output(), [0, 1, 2, 3, 4])
