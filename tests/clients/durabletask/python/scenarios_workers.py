"""Workers: several that share the work, one that is killed, and bare ones that answer twice, late or not at all."""

import pathlib
import queue
import subprocess
import sys
import tempfile
import threading
import time

from durabletask import task
from durabletask.worker import ConcurrencyOptions

from harness import Status, equal, holds, pb, scenario, until


@scenario
def two_workers_share_the_work(hub):
    seen = {"one": 0, "two": 0}

    def works_as(who):
        def works(ctx, number):
            seen[who] += 1
            time.sleep(0.05)
            return number

        return works

    def fans(ctx, count):
        return sum((yield task.when_all([ctx.call_activity(hub.run + "_works", input=n) for n in range(count)])))

    few = ConcurrencyOptions(maximum_concurrent_activity_work_items=4, maximum_thread_pool_workers=8)

    def registers(who):
        return [("orchestrator", hub.run + "_fans", fans), ("activity", hub.run + "_works", works_as(who))]

    with (
        hub.worker(named=registers("one"), concurrency_options=few),
        hub.worker(named=registers("two"), concurrency_options=few),
    ):
        ids = [hub.start(hub.run + "_fans", 20) for _ in range(4)]
        equal([hub.end(instance_id).get_output() for instance_id in ids], [190] * 4)
        equal(seen["one"] + seen["two"], 80, "the activities that ran")
        holds(min(seen.values()) >= 10, f"the workers ran {seen}")


@scenario
def concurrency_limit_of_a_worker_is_kept(hub):
    lock, now, most = threading.Lock(), [0], [0]

    def works(ctx, number):
        with lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        time.sleep(0.05)
        with lock:
            now[0] -= 1
        return number

    def fans(ctx, count):
        return len((yield task.when_all([ctx.call_activity(works, input=n) for n in range(count)])))

    three = ConcurrencyOptions(maximum_concurrent_activity_work_items=3, maximum_thread_pool_workers=16)
    with hub.worker([fans], [works], concurrency_options=three):
        equal(hub.output(fans, 30), 30)
        holds(most[0] <= 3, f"{most[0]} activities at once")


WORKER = """
import logging, pathlib, sys, time
from durabletask.worker import TaskHubGrpcWorker
address, hub, prefix, marker = sys.argv[1:]
quiet = logging.getLogger("quiet"); quiet.setLevel(60)
worker = TaskHubGrpcWorker(host_address=address, metadata=[("taskhub", hub)], logger=quiet)
def steps(ctx, count):
    found = []
    for number in range(count):
        found.append((yield ctx.call_activity(prefix + "_slow", input=number)))
    return found
def slow(ctx, number):
    pathlib.Path(marker).write_text(str(number))
    if number == 1:
        time.sleep(600)
    return number
worker._registry.add_named_orchestrator(prefix + "_steps", steps)
worker._registry.add_named_activity(prefix + "_slow", slow)
worker.use_work_item_filters()
worker.start()
print("ready", flush=True)
time.sleep(600)
"""


@scenario
def worker_killed_in_the_middle(hub):
    """What a killed worker held goes to another one: nothing is lost, and what was done is not done again."""
    calls = []

    def steps(ctx, count):
        found = []
        for number in range(count):
            found.append((yield ctx.call_activity(hub.run + "_slow", input=number)))
        return found

    def slow(ctx, number):
        calls.append(number)
        return number

    with tempfile.TemporaryDirectory() as folder:
        script, marker = pathlib.Path(folder, "worker.py"), pathlib.Path(folder, "at")
        script.write_text(WORKER)
        process = subprocess.Popen(
            [sys.executable, str(script), hub.address, hub.name, hub.run, str(marker)], stdout=subprocess.DEVNULL
        )
        try:
            instance_id = hub.start(hub.run + "_steps", 4)
            until("the first worker is in the second step", lambda: marker.exists() and marker.read_text() == "1")
        finally:
            process.kill()
            process.wait()
        named = [("orchestrator", hub.run + "_steps", steps), ("activity", hub.run + "_slow", slow)]
        with hub.worker(named=named):
            equal(hub.end(instance_id).get_output(), [0, 1, 2, 3])
            equal(calls, [1, 2, 3], "the steps of the second worker")


@scenario
def worker_stopped_and_started_again(hub):
    def waits(ctx, _):
        first = yield ctx.wait_for_external_event("one")
        second = yield ctx.wait_for_external_event("two")
        return [first, second]

    with hub.worker([waits]):
        instance_id = hub.start(waits)
        hub.becomes(instance_id, Status.RUNNING)
    hub.client.raise_orchestration_event(instance_id, "one", data=1)
    with hub.worker([waits]):
        hub.client.raise_orchestration_event(instance_id, "two", data=2)
        equal(hub.end(instance_id).get_output(), [1, 2])


class Raw:
    """A worker by hand: it takes one work item after the other from its stream."""

    def __init__(self, stub, name, orchestrations=8, activities=8):
        filters = pb.WorkItemFilters(
            orchestrations=[pb.OrchestrationFilter(name=name)], activities=[pb.ActivityFilter(name=name)]
        )
        request = pb.GetWorkItemsRequest(
            maxConcurrentOrchestrationWorkItems=orchestrations,
            maxConcurrentActivityWorkItems=activities,
            workItemFilters=filters,
        )
        self.stream, self.items = stub.GetWorkItems(request, timeout=25), queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        try:
            for item in self.stream:
                if not item.HasField("healthPing"):
                    self.items.put(item)
        except Exception as error:  # the stream was cancelled
            self.items.put(error)

    def take(self, seconds=10):
        item = self.items.get(timeout=seconds)
        if isinstance(item, Exception):
            raise item
        return item

    def nothing(self, seconds=0.5):
        try:
            item = self.items.get(timeout=seconds)
        except queue.Empty:
            return
        raise AssertionError(f"there was {item}")


def kinds(events):
    return [event.WhichOneof("eventType") for event in events]


def schedule(name, id=1):
    return pb.OrchestratorAction(id=id, scheduleTask=pb.ScheduleTaskAction(name=name))


def complete(id=2, text=None):
    action = pb.CompleteOrchestrationAction(orchestrationStatus=pb.ORCHESTRATION_STATUS_COMPLETED)
    if text is not None:
        action.result.value = text
    return pb.OrchestratorAction(id=id, completeOrchestration=action)


def answer(stub, item, *actions):
    request = item.orchestratorRequest
    stub.CompleteOrchestratorTask(
        pb.OrchestratorResponse(instanceId=request.instanceId, actions=actions, completionToken=item.completionToken)
    )


@scenario
def work_items_have_what_workers_read(hub):
    name = hub.run + "_raw"
    with hub.stub() as stub:
        raw = Raw(stub, name)
        instance_id = hub.start(name, {"n": 1}, tags={"a": "b"}, version="1.0")
        first = raw.take()
        request = first.orchestratorRequest
        equal([request.instanceId, kinds(request.pastEvents)], [instance_id, []])
        equal(kinds(request.newEvents), ["orchestratorStarted", "executionStarted"])
        started = request.newEvents[1].executionStarted
        equal([started.name, started.input.value, started.version.value], [name, '{"n": 1}', "1.0"])
        equal([started.orchestrationInstance.instanceId, dict(started.tags)], [instance_id, {"a": "b"}])
        execution = started.orchestrationInstance.executionId.value
        holds(len(execution) == 32 and int(execution, 16) >= 0, f"the execution id is {execution!r}")
        holds(abs(request.newEvents[0].timestamp.ToSeconds() - time.time()) < 60, "the time is now")
        answer(stub, first, schedule(name))
        activity = raw.take()
        asked = activity.activityRequest
        equal([asked.name, asked.taskId, asked.HasField("input")], [name, 1, False])
        equal(asked.orchestrationInstance.instanceId, instance_id)
        result = pb.ActivityResponse(instanceId=instance_id, taskId=1, completionToken=activity.completionToken)
        stub.CompleteActivityTask(result)
        second = raw.take()
        request = second.orchestratorRequest
        equal(kinds(request.pastEvents), ["orchestratorStarted", "executionStarted", "taskScheduled"])
        equal(kinds(request.newEvents), ["orchestratorStarted", "taskCompleted"])
        done = request.newEvents[1].taskCompleted
        equal([done.taskScheduledId, done.HasField("result")], [1, False])
        answer(stub, second, complete())
        state = hub.end(instance_id)
        equal([state.runtime_status, state.serialized_output], [Status.COMPLETED, None])
        raw.stream.cancel()


@scenario
def stale_and_unknown_answers_are_ignored(hub):
    name = hub.run + "_raw"
    with hub.stub() as stub:
        raw = Raw(stub, name)
        instance_id = hub.start(name)
        item = raw.take()
        stub.CompleteOrchestratorTask(
            pb.OrchestratorResponse(instanceId=instance_id, actions=[complete(1, '"forged"')], completionToken="no such token")
        )
        answer(stub, item, schedule(name))
        answer(stub, item, complete(1, '"twice"'))
        activity = raw.take()
        for text in ('"first"', '"second"'):
            result = pb.ActivityResponse(instanceId=instance_id, taskId=1, completionToken=activity.completionToken)
            result.result.value = text
            stub.CompleteActivityTask(result)
        second = raw.take()
        equal(second.orchestratorRequest.newEvents[1].taskCompleted.result.value, '"first"')
        answer(stub, second, complete(2, '"end"'))
        equal(hub.end(instance_id).get_output(), "end")
        raw.nothing()
        raw.stream.cancel()


@scenario
def abandoned_work_is_given_out_again(hub):
    name = hub.run + "_raw"
    with hub.stub() as stub:
        raw = Raw(stub, name)
        instance_id = hub.start(name)
        item = raw.take()
        stub.AbandonTaskOrchestratorWorkItem(pb.AbandonOrchestrationTaskRequest(completionToken=item.completionToken))
        again = raw.take()
        equal(kinds(again.orchestratorRequest.newEvents), ["orchestratorStarted", "executionStarted"])
        answer(stub, again, schedule(name))
        activity = raw.take()
        stub.AbandonTaskActivityWorkItem(pb.AbandonActivityTaskRequest(completionToken=activity.completionToken))
        activity = raw.take()
        result = pb.ActivityResponse(instanceId=instance_id, taskId=1, completionToken=activity.completionToken)
        result.result.value = "7"
        stub.CompleteActivityTask(result)
        second = raw.take()
        equal(second.orchestratorRequest.newEvents[1].taskCompleted.result.value, "7")
        answer(stub, second, complete())
        hub.end(instance_id)
        raw.stream.cancel()


@scenario
def work_of_a_lost_stream_is_given_to_another(hub):
    name = hub.run + "_raw"
    with hub.stub() as stub:
        first = Raw(stub, name)
        instance_id = hub.start(name)
        item = first.take()
        first.stream.cancel()
        second = Raw(stub, name)
        again = second.take()
        equal(again.orchestratorRequest.instanceId, instance_id)
        answer(stub, item, complete(1, '"from the lost stream"'))
        answer(stub, again, complete(1, '"from the second"'))
        equal(hub.end(instance_id).get_output(), "from the second")
        second.stream.cancel()


@scenario
def one_work_item_of_an_instance_at_a_time(hub):
    name = hub.run + "_raw"
    with hub.stub() as stub:
        raw = Raw(stub, name)
        instance_id = hub.start(name)
        item = raw.take()
        for number in range(3):
            hub.client.raise_orchestration_event(instance_id, "note", data=number)
        raw.nothing()
        answer(stub, item)
        second = raw.take()
        equal(kinds(second.orchestratorRequest.newEvents), ["orchestratorStarted"] + ["eventRaised"] * 3)
        answer(stub, second, complete())
        hub.end(instance_id)
        raw.stream.cancel()


@scenario
def credits_of_a_stream_are_kept(hub):
    name = hub.run + "_raw"
    with hub.stub() as stub:
        raw = Raw(stub, name, orchestrations=2)
        ids = [hub.start(name) for _ in range(5)]
        items = [raw.take(), raw.take()]
        raw.nothing()
        for _ in range(5):
            answer(stub, items.pop(0), complete(1))
            if len(items) < 2 and len(ids) > 2:
                items.append(raw.take())
                ids.pop()
        raw.nothing()
        raw.stream.cancel()
