"""Rewind: a failed orchestration goes on from before its failure; results are kept, failures are tried again."""

from datetime import timedelta

import grpc
from durabletask import task

from harness import Status, equal, holds, refused, scenario, until


def workshop():
    """Activities that count their calls and fail until they are repaired."""
    calls, broken = {}, {"on": True}

    def works(ctx, name):
        calls[name] = calls.get(name, 0) + 1
        return name

    def breaks(ctx, name):
        calls[name] = calls.get(name, 0) + 1
        if broken["on"]:
            raise RuntimeError(f"{name} is broken")
        return name

    return works, breaks, calls, broken


def rewound(hub, instance_id, reason="repaired"):
    hub.client.rewind_orchestration(instance_id, reason=reason)
    until(f"{instance_id} has left Failed", lambda: hub.status(instance_id) != Status.FAILED, 10)


@scenario
def rewind_runs_only_the_failed_activity_again(hub):
    works, breaks, calls, broken = workshop()

    def steps(ctx, _):
        first = yield ctx.call_activity(works, input="first")
        second = yield ctx.call_activity(breaks, input="second")
        third = yield ctx.call_activity(works, input="third")
        return [first, second, third]

    with hub.worker([steps], [works, breaks]):
        instance_id = hub.start(steps)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
        broken["on"] = False
        rewound(hub, instance_id)
        equal(hub.end(instance_id).get_output(), ["first", "second", "third"])
        equal(calls, {"first": 1, "second": 2, "third": 1}, "the calls")
        holds("ExecutionRewound" in hub.history(instance_id), f"the history is {hub.history(instance_id)}")


@scenario
def rewind_twice(hub):
    works, breaks, calls, broken = workshop()

    def steps(ctx, _):
        yield ctx.call_activity(works, input="first")
        return (yield ctx.call_activity(breaks, input="second"))

    with hub.worker([steps], [works, breaks]):
        instance_id = hub.start(steps)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
        hub.client.rewind_orchestration(instance_id, reason="hope")
        until("the second try has failed", lambda: calls["second"] == 2 and hub.status(instance_id) == Status.FAILED)
        broken["on"] = False
        rewound(hub, instance_id)
        equal(hub.end(instance_id).get_output(), "second")
        equal(calls, {"first": 1, "second": 3}, "the calls")


@scenario
def rewind_of_a_fan_out_keeps_the_good_results(hub):
    works, breaks, calls, broken = workshop()

    def fans(ctx, _):
        calls_of = [works, breaks, works, breaks]
        return (yield task.when_all([ctx.call_activity(f, input=str(n)) for n, f in enumerate(calls_of)]))

    with hub.worker([fans], [works, breaks]):
        instance_id = hub.start(fans)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
        broken["on"] = False
        rewound(hub, instance_id)
        equal(hub.end(instance_id).get_output(), ["0", "1", "2", "3"])
        equal(calls, {"0": 1, "1": 2, "2": 1, "3": 2}, "the calls")


@scenario
def rewind_with_children(hub):
    works, breaks, calls, broken = workshop()

    def child(ctx, name):
        yield ctx.call_activity(works, input=f"{name} before")
        return (yield ctx.call_activity(breaks, input=name))

    def parent(ctx, _):
        good = yield ctx.call_activity(works, input="parent")
        kids = [
            ctx.call_sub_orchestrator(child, input=str(number), instance_id=f"{ctx.instance_id}-{number}")
            for number in range(3)
        ]
        return [good, *(yield task.when_all(kids))]

    with hub.worker([parent, child], [works, breaks]):
        instance_id = hub.start(parent)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
        broken["on"] = False
        rewound(hub, instance_id)
        state = hub.end(instance_id)
        equal(state.get_output(), ["parent", "0", "1", "2"])
        equal({calls[name] for name in ("parent", "0 before", "1 before", "2 before")}, {1}, "the calls that succeeded")
        equal({calls[name] for name in "012"}, {2}, "the calls that failed")
        equal(hub.status(f"{instance_id}-1"), Status.COMPLETED, "the status of a child")


@scenario
def rewind_after_a_child_was_purged(hub):
    works, breaks, calls, broken = workshop()

    def child(ctx, _):
        return (yield ctx.call_activity(breaks, input="child"))

    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator(child, instance_id=f"{ctx.instance_id}-kid"))

    with hub.worker([parent, child], [works, breaks]):
        instance_id = hub.start(parent)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
        equal(hub.client.purge_orchestration(f"{instance_id}-kid").deleted_instance_count, 1)
        broken["on"] = False
        rewound(hub, instance_id)
        equal(hub.end(instance_id).get_output(), "child")
        equal(hub.status(f"{instance_id}-kid"), Status.COMPLETED, "the status of the child, made again")


@scenario
def rewind_of_what_did_not_fail_is_refused(hub):
    def ends(ctx, _):
        return 1

    def waits(ctx, _):
        return (yield ctx.wait_for_external_event("go"))

    with hub.worker([ends, waits]):
        ended, running = hub.start(ends), hub.start(waits)
        hub.end(ended)
        hub.becomes(running, Status.RUNNING)
        for instance_id in (ended, running):
            with refused(grpc.StatusCode.FAILED_PRECONDITION):
                hub.client.rewind_orchestration(instance_id)


@scenario
def rewind_of_an_orchestrator_that_failed_by_itself(hub):
    tries = []

    def fails_once(ctx, name):
        tries.append(ctx.instance_id)
        if len(tries) == 1:
            raise RuntimeError("the first try failed")
        return f"{name} at try {len(tries)}"

    with hub.worker([fails_once]):
        instance_id = hub.start(fails_once, "done")
        equal(hub.end(instance_id).failure_details.message, "the first try failed")
        hub.client.rewind_orchestration(instance_id)
        until("the second try", lambda: len(tries) >= 2)
        state = hub.end(instance_id)
        equal(state.runtime_status, Status.COMPLETED)
        equal(state.failure_details, None, "the failure of the first try")
        holds(state.get_output().startswith("done at try"), state.get_output())


@scenario
def rewind_while_no_worker_is_there(hub):
    _, breaks, calls, broken = workshop()

    def calls_once(ctx, _):
        return (yield ctx.call_activity(breaks, input="it"))

    with hub.worker([calls_once], [breaks]):
        instance_id = hub.start(calls_once)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
    hub.client.rewind_orchestration(instance_id)
    holds(hub.status(instance_id) != Status.FAILED, "it has left Failed when the call returns")
    broken["on"] = False
    with hub.worker([calls_once], [breaks]):
        equal(hub.end(instance_id).get_output(), "it")
        equal(calls, {"it": 2}, "the calls")


@scenario
def rewind_of_what_was_retried(hub):
    _, breaks, calls, broken = workshop()
    policy = task.RetryPolicy(first_retry_interval=timedelta(milliseconds=50), max_number_of_attempts=3)

    def retries(ctx, _):
        yield ctx.create_timer(timedelta(milliseconds=50))
        return (yield ctx.call_activity(breaks, input="it", retry_policy=policy))

    with hub.worker([retries], [breaks]):
        instance_id = hub.start(retries)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
        equal(calls, {"it": 3}, "the calls before")
        broken["on"] = False
        rewound(hub, instance_id)
        equal(hub.end(instance_id).get_output(), "it")
        equal(calls, {"it": 4}, "the calls")


@scenario
def rewind_of_grandchildren(hub):
    works, breaks, calls, broken = workshop()

    def leaf(ctx, name):
        return (yield ctx.call_activity(breaks, input=name))

    def middle(ctx, name):
        return (yield ctx.call_sub_orchestrator(leaf, input=name))

    def top(ctx, _):
        first = yield ctx.call_activity(works, input="top")
        return [first, (yield ctx.call_sub_orchestrator(middle, input="leaf"))]

    with hub.worker([top, middle, leaf], [works, breaks]):
        instance_id = hub.start(top)
        equal(hub.end(instance_id).runtime_status, Status.FAILED)
        broken["on"] = False
        rewound(hub, instance_id)
        equal(hub.end(instance_id).get_output(), ["top", "leaf"])
        equal(calls, {"top": 1, "leaf": 2}, "the calls")
