"""Start, terminate, suspend, resume, restart, purge: what a client does to instances."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta, timezone

import grpc
from durabletask import task

from harness import Status, equal, holds, pb, refused, scenario, until

# The host keeps milliseconds: what was created in this one may be recorded as earlier.
MOMENT = timedelta(milliseconds=1)


def waits(hub):
    def waits_for_go(ctx, _):
        return (yield ctx.wait_for_external_event("go"))

    return hub.named(waits_for_go)[0]


@scenario
def terminate_running(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait)
        hub.becomes(instance_id, Status.RUNNING)
        hub.client.terminate_orchestration(instance_id, output={"reason": "found a bug"})
        state = hub.end(instance_id)
        equal(state.runtime_status, Status.TERMINATED)
        equal(state.get_output(), {"reason": "found a bug"})
        hub.client.terminate_orchestration(instance_id, output="again")
        equal(hub.end(instance_id).get_output(), {"reason": "found a bug"}, "the output after another terminate")


@scenario
def terminate_before_any_worker(hub):
    wait = waits(hub)
    instance_id = hub.start(wait)
    equal(hub.status(instance_id), Status.PENDING)
    hub.client.terminate_orchestration(instance_id, output="too late")
    equal(hub.end(instance_id, 5).runtime_status, Status.TERMINATED)


@scenario
def terminate_scheduled_start(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait, start_at=datetime.now(timezone.utc) + timedelta(days=1))
        equal(hub.status(instance_id), Status.PENDING)
        hub.client.terminate_orchestration(instance_id)
        equal(hub.end(instance_id, 5).runtime_status, Status.TERMINATED)


@scenario
def terminate_recursively(hub):
    wait = waits(hub)

    def middle(ctx, _):
        return (yield ctx.call_sub_orchestrator(wait, instance_id=f"{ctx.instance_id}-leaf"))

    def top(ctx, _):
        return (yield ctx.call_sub_orchestrator(middle, instance_id=f"{ctx.instance_id}-middle"))

    with hub.worker([wait, middle, top]):
        instance_id = hub.start(top)
        family = [instance_id, f"{instance_id}-middle", f"{instance_id}-middle-leaf"]
        until("the leaf runs", lambda: hub.status(family[2]) == Status.RUNNING)
        hub.client.terminate_orchestration(instance_id, output="all", recursive=True)
        for member in family:
            equal(hub.end(member, 10).runtime_status, Status.TERMINATED, f"the status of {member}")


@scenario
def terminate_leaves_children_alone_when_told_so(hub):
    wait = waits(hub)

    def top(ctx, _):
        return (yield ctx.call_sub_orchestrator(wait, instance_id=f"{ctx.instance_id}-kid"))

    with hub.worker([wait, top]):
        instance_id = hub.start(top)
        kid = f"{instance_id}-kid"
        until("the child runs", lambda: hub.status(kid) == Status.RUNNING)
        hub.client.terminate_orchestration(instance_id, recursive=False)
        equal(hub.end(instance_id).runtime_status, Status.TERMINATED)
        hub.client.raise_orchestration_event(kid, "go", data=1)
        equal(hub.end(kid).runtime_status, Status.COMPLETED, "the status of the child")


@scenario
def terminated_child_fails_in_its_parent(hub):
    wait = waits(hub)

    def top(ctx, _):
        try:
            yield ctx.call_sub_orchestrator(wait, instance_id=f"{ctx.instance_id}-kid")
        except task.TaskFailedError:
            return "the child failed"

    with hub.worker([wait, top]):
        instance_id = hub.start(top)
        until("the child runs", lambda: hub.status(f"{instance_id}-kid") == Status.RUNNING)
        hub.client.terminate_orchestration(f"{instance_id}-kid", output="no")
        equal(hub.end(instance_id).get_output(), "the child failed")


@scenario
def requests_about_missing_instances(hub):
    missing = hub.id("missing")
    client = hub.client
    for request in (
        client.terminate_orchestration,
        client.suspend_orchestration,
        client.resume_orchestration,
        client.rewind_orchestration,
        client.restart_orchestration,
        client.get_orchestration_history,
    ):
        with refused(grpc.StatusCode.NOT_FOUND):
            request(missing)
    equal(client.get_orchestration_state(missing), None)
    equal(client.purge_orchestration(missing).deleted_instance_count, 0)
    equal(client.wait_for_orchestration_completion(missing, timeout=5), None)


@scenario
def suspend_holds_events_and_timers(hub):
    def collects(ctx, count):
        timer = ctx.create_timer(timedelta(milliseconds=300))
        found = []
        for _ in range(count):
            found.append((yield ctx.wait_for_external_event("item")))
        yield timer
        return found

    with hub.worker([collects]):
        instance_id = hub.start(collects, 5)
        hub.becomes(instance_id, Status.RUNNING)
        hub.client.suspend_orchestration(instance_id, reason="a break")
        hub.becomes(instance_id, Status.SUSPENDED)
        for number in range(5):
            hub.client.raise_orchestration_event(instance_id, "item", data=number)
        time.sleep(1)
        equal(hub.status(instance_id), Status.SUSPENDED, "the status after the events")
        hub.client.suspend_orchestration(instance_id)
        equal(hub.status(instance_id), Status.SUSPENDED, "the status after another suspend")
        hub.client.resume_orchestration(instance_id, reason="the break is over")
        state = hub.end(instance_id)
        equal(state.runtime_status, Status.COMPLETED)
        equal(state.get_output(), list(range(5)))


@scenario
def suspend_before_any_worker(hub):
    wait = waits(hub)
    instance_id = hub.start(wait)
    hub.client.suspend_orchestration(instance_id)
    hub.client.raise_orchestration_event(instance_id, "go", data=5)
    with hub.worker([wait]):
        hub.becomes(instance_id, Status.SUSPENDED)
        hub.client.resume_orchestration(instance_id)
        equal(hub.end(instance_id).get_output(), 5)


@scenario
def activity_that_ends_while_its_instance_is_suspended_or_terminated(hub):
    go, done = threading.Event(), []

    def slow(ctx, name):
        go.wait(20)
        done.append(name)
        return name

    def calls(ctx, name):
        return (yield ctx.call_activity(slow, input=name))

    with hub.worker([calls], [slow]):
        suspended, terminated = hub.start(calls, "suspended"), hub.start(calls, "terminated")
        for instance_id in (suspended, terminated):
            until("the activity is scheduled", lambda: "TaskScheduled" in hub.history(instance_id))
        hub.client.suspend_orchestration(suspended)
        hub.client.terminate_orchestration(terminated, output="stopped")
        hub.becomes(suspended, Status.SUSPENDED)
        equal(hub.end(terminated).get_output(), "stopped")
        go.set()
        until("both activities are done", lambda: len(done) == 2)
        time.sleep(0.3)
        equal(hub.status(suspended), Status.SUSPENDED)
        equal(hub.end(terminated).get_output(), "stopped", "the output after the activity ended")
        hub.client.resume_orchestration(suspended)
        equal(hub.end(suspended).get_output(), "suspended")


@scenario
def starts_of_one_id_at_the_same_time(hub):
    wait = waits(hub)

    def start(number):
        try:
            hub.start(wait, number, instance_id=hub.id("one"))
            return 1
        except grpc.RpcError as error:
            equal(error.code(), grpc.StatusCode.ALREADY_EXISTS)
            return 0

    with ThreadPoolExecutor(16) as pool:
        equal(sum(pool.map(start, range(32))), 1, "the starts that were accepted")


@scenario
def suspended_may_be_terminated(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait)
        hub.becomes(instance_id, Status.RUNNING)
        hub.client.suspend_orchestration(instance_id)
        hub.becomes(instance_id, Status.SUSPENDED)
        hub.client.terminate_orchestration(instance_id)
        equal(hub.end(instance_id).runtime_status, Status.TERMINATED)


@scenario
def suspend_and_resume_of_ended_and_running_are_accepted(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait)
        hub.becomes(instance_id, Status.RUNNING)
        hub.client.resume_orchestration(instance_id)
        hub.client.raise_orchestration_event(instance_id, "go", data=1)
        hub.end(instance_id)
        hub.client.suspend_orchestration(instance_id)
        hub.client.resume_orchestration(instance_id)
        equal(hub.status(instance_id), Status.COMPLETED)


@scenario
def scheduled_start_waits_until_it_is_due(hub):
    def now(ctx, _):
        return ctx.current_utc_datetime.isoformat()

    with hub.worker([now]):
        due = datetime.now(timezone.utc) + timedelta(seconds=2)
        instance_id = hub.start(now, start_at=due)
        equal(hub.status(instance_id), Status.PENDING)
        began = datetime.fromisoformat(hub.end(instance_id).get_output()).replace(tzinfo=timezone.utc)
        holds(began >= due, f"it began at {began}, before {due}")
        past = hub.start(now, start_at=datetime(2001, 1, 1, tzinfo=timezone.utc))
        began = datetime.fromisoformat(hub.end(past).get_output())
        holds(began.year > 2001, f"the clock of a start that is overdue is {began}")


@scenario
def wait_for_the_start(hub):
    wait = waits(hub)
    instance_id = hub.start(wait)
    try:
        hub.client.wait_for_orchestration_start(instance_id, timeout=1)
        raise AssertionError("it started without a worker")
    except TimeoutError:
        pass
    with hub.worker([wait]):
        state = hub.client.wait_for_orchestration_start(instance_id, timeout=20)
        equal(state.runtime_status, Status.RUNNING)
        hub.client.raise_orchestration_event(instance_id, "go")
        hub.end(instance_id)


@scenario
def deadline_and_cancellation_of_waits(hub):
    wait = waits(hub)
    with hub.worker([wait]), hub.stub() as stub:
        instance_id = hub.start(wait)
        began = time.monotonic()
        try:
            hub.client.wait_for_orchestration_completion(instance_id, timeout=1)
            raise AssertionError("it completed")
        except TimeoutError:
            holds(0.9 <= time.monotonic() - began < 10, "the deadline is kept")
        request = pb.GetInstanceRequest(instanceId=instance_id)
        calls = [stub.stub.WaitForInstanceCompletion.future(request, metadata=hub.metadata) for _ in range(50)]
        for call in calls[1:]:
            call.cancel()
        hub.client.raise_orchestration_event(instance_id, "go")
        equal(calls[0].result(timeout=20).orchestrationState.orchestrationStatus, pb.ORCHESTRATION_STATUS_COMPLETED)


@scenario
def restart_under_the_same_and_another_id(hub):
    runs = []

    def counts(ctx, value):
        runs.append(ctx.instance_id)
        return [value, ctx.version]

    with hub.worker([counts]):
        instance_id = hub.start(counts, {"n": 1}, version="1.5", tags={"a": "b"})
        hub.end(instance_id)
        equal(hub.client.restart_orchestration(instance_id), instance_id)
        until("it has run again", lambda: len(runs) >= 2)
        equal(hub.end(instance_id).get_output(), [{"n": 1}, "1.5"])
        other = hub.client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
        holds(other != instance_id, "the id is another one")
        equal(hub.end(other).get_output(), [{"n": 1}, "1.5"])


@scenario
def restart_of_the_failed_and_the_terminated(hub):
    tries = []

    def fails_once(ctx, value):
        tries.append(value)
        if len(tries) == 1:
            raise RuntimeError("the first try failed")
        return value

    wait = waits(hub)
    with hub.worker([fails_once, wait]):
        failed, stopped = hub.start(fails_once, "a"), hub.start(wait, "b")
        equal(hub.end(failed).runtime_status, Status.FAILED)
        hub.client.terminate_orchestration(stopped)
        equal(hub.end(stopped).runtime_status, Status.TERMINATED)
        equal(hub.client.restart_orchestration(failed), failed)
        until("it has run again", lambda: len(tries) >= 2)
        state = hub.end(failed)
        equal([state.runtime_status, state.get_output(), state.failure_details], [Status.COMPLETED, "a", None])
        hub.client.restart_orchestration(stopped)
        hub.becomes(stopped, Status.RUNNING)
        hub.client.raise_orchestration_event(stopped, "go", data="b")
        equal(hub.end(stopped).get_output(), "b")


@scenario
def restart_of_the_running(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait, 1)
        hub.becomes(instance_id, Status.RUNNING)
        with refused(grpc.StatusCode.FAILED_PRECONDITION):
            hub.client.restart_orchestration(instance_id)
        other = hub.client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
        for each in (instance_id, other):
            hub.client.raise_orchestration_event(each, "go", data=each)
            equal(hub.end(each).get_output(), each)


def policy(*statuses):
    return pb.OrchestrationIdReusePolicy(replaceableStatus=[status.value for status in statuses])


@scenario
def ids_that_are_taken(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait, 1, instance_id=hub.id("taken"))
        with refused(grpc.StatusCode.ALREADY_EXISTS, instance_id):
            hub.start(wait, 2, instance_id=instance_id)
        hub.client.raise_orchestration_event(instance_id, "go")
        hub.end(instance_id)
        with refused(grpc.StatusCode.ALREADY_EXISTS):
            hub.start(wait, 3, instance_id=instance_id)
        with refused(grpc.StatusCode.ALREADY_EXISTS):
            hub.start(wait, 4, instance_id=instance_id, reuse_id_policy=policy(Status.FAILED, Status.TERMINATED))
        hub.start(wait, 5, instance_id=instance_id, reuse_id_policy=policy(Status.COMPLETED))
        hub.becomes(instance_id, Status.RUNNING)
        equal(hub.client.get_orchestration_state(instance_id).get_input(), 5)


@scenario
def running_instance_is_replaced(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait, 1, instance_id=hub.id("taken"))
        hub.becomes(instance_id, Status.RUNNING)
        running = (Status.RUNNING, Status.PENDING, Status.SUSPENDED, Status.TERMINATED)
        hub.start(wait, 2, instance_id=instance_id, reuse_id_policy=policy(*running))
        until("the new one runs", lambda: hub.client.get_orchestration_state(instance_id).get_input() == 2)
        hub.client.raise_orchestration_event(instance_id, "go", data="second")
        equal(hub.end(instance_id).get_output(), "second")


@scenario
def reuse_of_the_running_and_not_of_the_terminated_is_refused(hub):
    wait = waits(hub)
    with refused(
        grpc.StatusCode.INVALID_ARGUMENT,
        "Invalid reusable statuses: cannot exclude 'Terminated' while also allowing reuse of running instances",
    ):
        hub.start(wait, instance_id=hub.id("taken"), reuse_id_policy=policy(Status.RUNNING))


@scenario
def purge_one_instance(hub):
    wait = waits(hub)
    with hub.worker([wait]):
        instance_id = hub.start(wait)
        hub.becomes(instance_id, Status.RUNNING)
        equal(hub.client.purge_orchestration(instance_id).deleted_instance_count, 0, "the purged while it runs")
        hub.client.raise_orchestration_event(instance_id, "go")
        hub.end(instance_id)
        equal(hub.client.purge_orchestration(instance_id).deleted_instance_count, 1, "the purged")
        equal(hub.status(instance_id), None)
        equal(hub.client.purge_orchestration(instance_id).deleted_instance_count, 0, "the purged for the second time")


@scenario
def purge_recursively(hub):
    def leaf(ctx, _):
        return 1

    def top(ctx, depth):
        if depth:
            return (yield ctx.call_sub_orchestrator(top, input=depth - 1, instance_id=f"{ctx.instance_id}-{depth}"))
        return (yield ctx.call_sub_orchestrator(leaf, instance_id=f"{ctx.instance_id}-leaf"))

    with hub.worker([leaf, top]):
        ids = [hub.start(top, 2), hub.start(top, 2)]
        for instance_id in ids:
            hub.end(instance_id)
        equal(hub.client.purge_orchestration(ids[0], recursive=True).deleted_instance_count, 4, "the purged family")
        equal(hub.client.purge_orchestration(ids[1], recursive=False).deleted_instance_count, 1, "the purged parent")
        equal(hub.status(f"{ids[0]}-2-1-leaf"), None, "the status of a purged leaf")
        equal(hub.status(f"{ids[1]}-2-1-leaf"), Status.COMPLETED, "the status of a leaf that was left")


@scenario
def purge_a_batch(hub):
    def ends(ctx, _):
        return None

    wait = waits(hub)
    with hub.worker([ends, wait]), hub.stub() as stub:
        ended = [hub.start(ends) for _ in range(20)]
        running = hub.start(wait)
        for instance_id in ended:
            hub.end(instance_id)
        batch = pb.InstanceBatch(instanceIds=[*ended, running, hub.id("missing")])
        result = stub.PurgeInstances(pb.PurgeInstancesRequest(instanceBatch=batch))
        equal(result.deletedInstanceCount, 20, "the purged")
        equal([hub.status(instance_id) for instance_id in ended], [None] * 20)
        holds(hub.status(running) is not None, "the running one is still there")


@scenario(alone=True)
def purge_by_filter(hub):
    def ends(ctx, fails):
        if fails:
            raise ValueError("as told")

    with hub.worker([ends]):
        before = datetime.now(timezone.utc) - MOMENT
        good, bad = [hub.start(ends, False) for _ in range(3)], [hub.start(ends, True) for _ in range(2)]
        for instance_id in good + bad:
            hub.end(instance_id)
        after = datetime.now(timezone.utc) + timedelta(seconds=1)
        result = hub.client.purge_orchestrations_by(before, after, [Status.FAILED], timeout=timedelta(seconds=20))
        equal(result.deleted_instance_count, 2, "the purged that failed")
        holds(result.is_complete is not False, "the purge is complete")
        equal([hub.status(instance_id) for instance_id in good], [Status.COMPLETED] * 3)
        equal(hub.client.purge_orchestrations_by(before, after).deleted_instance_count, 3, "the purged of the rest")
        long_ago = hub.client.purge_orchestrations_by(created_time_to=datetime(2001, 1, 1, tzinfo=timezone.utc))
        equal(long_ago.deleted_instance_count, 0, "the purged of a time before")


@scenario
def force_terminate_without_a_worker(hub):
    wait = waits(hub)
    ids = [hub.start(wait) for _ in range(3)]
    with hub.stub() as stub:
        batch = pb.InstanceBatch(instanceIds=[*ids, hub.id("missing")])
        result = stub.SkipGracefulOrchestrationTerminations(
            pb.SkipGracefulOrchestrationTerminationsRequest(instanceBatch=batch)
        )
        holds(not set(ids) & set(result.unterminatedInstanceIds), f"not terminated: {result.unterminatedInstanceIds}")
    for instance_id in ids:
        equal(hub.end(instance_id, 5).runtime_status, Status.TERMINATED)


@scenario
def bad_arguments(hub):
    wait = waits(hub)
    with hub.stub() as stub:
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            stub.StartInstance(pb.CreateInstanceRequest(instanceId=hub.id("nameless"), name=""))
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            stub.StartInstance(pb.CreateInstanceRequest(instanceId="x" * 300, name=wait.__name__))
        with refused(grpc.StatusCode.INVALID_ARGUMENT):
            stub.StartInstance(pb.CreateInstanceRequest(instanceId="@a@b", name=wait.__name__))
        made_up = stub.StartInstance(pb.CreateInstanceRequest(name=wait.__name__)).instanceId
        holds(len(made_up) >= 16, f"the made-up id is {made_up!r}")
        stub.TerminateInstance(pb.TerminateRequest(instanceId=made_up))
