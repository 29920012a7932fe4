"""Histories compared event by event, with all that they carry."""

from datetime import timedelta

from durabletask import task

from harness import equal, holds, pb, scenario


@scenario
def history_event_by_event(hub):
    def works(ctx, number):
        return number + 1

    def child(ctx, number):
        return number * 2

    def steps(ctx, number):
        number = yield ctx.call_activity(works, input=number)
        yield ctx.create_timer(timedelta(milliseconds=50))
        return (yield ctx.call_sub_orchestrator(child, input=number))

    with hub.worker([steps, child], [works]):
        instance_id = hub.start(steps, 1, tags={"colour": "red"}, version="1.0")
        equal(hub.end(instance_id).get_output(), 4)
        equal(
            hub.history(instance_id),
            [
                "OrchestratorStarted",
                "ExecutionStarted",
                "TaskScheduled",
                "OrchestratorStarted",
                "TaskCompleted",
                "TimerCreated",
                "OrchestratorStarted",
                "TimerFired",
                "SubOrchestrationInstanceCreated",
                "OrchestratorStarted",
                "SubOrchestrationInstanceCompleted",
                "ExecutionCompleted",
            ],
            "the history",
        )
        events = hub.client.get_orchestration_history(instance_id)
        times = [event.timestamp for event in events]
        equal(times, sorted(times), "the times")
        started, scheduled, completed = events[1], events[2], events[4]
        equal([started.name, started.version, started.input, started.tags], [steps.__name__, "1.0", "1", {"colour": "red"}])
        equal(started.orchestration_instance.instance_id, instance_id)
        equal(started.parent_instance, None, "the parent")
        equal([scheduled.event_id, scheduled.name, scheduled.input], [1, works.__name__, "1"])
        equal([completed.task_scheduled_id, completed.result], [1, "2"])
        equal([events[5].event_id, events[7].timer_id], [2, 2], "the ids of the timer")
        equal(events[5].fire_at, events[7].fire_at, "the time of the timer")
        created, done, ended = events[8], events[10], events[11]
        equal([created.event_id, created.name, created.input], [3, child.__name__, "2"])
        equal([done.task_scheduled_id, done.result], [3, "4"])
        equal([ended.orchestration_status, ended.result], [pb.ORCHESTRATION_STATUS_COMPLETED, "4"])

        begun = hub.client.get_orchestration_history(created.instance_id)[1]
        parent = begun.parent_instance
        equal([parent.name, parent.task_scheduled_id], [steps.__name__, 3], "the child's parent")
        equal(parent.orchestration_instance.instance_id, instance_id)


@scenario
def history_of_failures(hub):
    def breaks(ctx, _):
        raise KeyError("lost")

    def child(ctx, _):
        raise OSError("no disk")

    def steps(ctx, _):
        for call in (lambda: ctx.call_activity(breaks), lambda: ctx.call_sub_orchestrator(child)):
            try:
                yield call()
            except task.TaskFailedError:
                pass
        raise ValueError("enough")

    with hub.worker([steps, child], [breaks]):
        instance_id = hub.start(steps)
        hub.end(instance_id)
        events = {type(event).__name__: event for event in hub.client.get_orchestration_history(instance_id)}
        for name, message in (
            ("TaskFailedEvent", "lost"),
            ("SubOrchestrationInstanceFailedEvent", "no disk"),
            ("ExecutionCompletedEvent", "enough"),
        ):
            holds(message in events[name].failure_details.message, f"{name} has {events[name].failure_details}")
        equal(events["ExecutionCompletedEvent"].orchestration_status, pb.ORCHESTRATION_STATUS_FAILED)


@scenario
def history_of_events_and_requests(hub):
    def receiver(ctx, _):
        return (yield ctx.wait_for_external_event("note"))

    def sender(ctx, to):
        ctx.send_event(to, "note", data="hello")
        return (yield ctx.wait_for_external_event("go"))

    with hub.worker([receiver, sender]):
        to = hub.start(receiver)
        instance_id = hub.start(sender, to)
        hub.client.suspend_orchestration(instance_id, reason="a break")
        hub.client.resume_orchestration(instance_id, reason="go on")
        hub.client.raise_orchestration_event(instance_id, "go", data={"n": 1})
        hub.end(instance_id)
        hub.end(to)
        events = {type(event).__name__: event for event in hub.client.get_orchestration_history(instance_id)}
        sent, raised = events["EventSentEvent"], events["EventRaisedEvent"]
        equal([sent.event_id, sent.instance_id, sent.name, sent.input], [1, to, "note", '"hello"'])
        equal([raised.name.lower(), raised.input], ["go", '{"n": 1}'])
        equal([events["ExecutionSuspendedEvent"].input, events["ExecutionResumedEvent"].input], ["a break", "go on"])


@scenario
def history_of_a_terminated_instance(hub):
    def waits(ctx, _):
        return (yield ctx.wait_for_external_event("go"))

    with hub.worker([waits]):
        instance_id = hub.start(waits)
        hub.client.wait_for_orchestration_start(instance_id)
        hub.client.terminate_orchestration(instance_id, output="stop", recursive=True)
        hub.end(instance_id)
        events = {type(event).__name__: event for event in hub.client.get_orchestration_history(instance_id)}
        # The hub does not record that a request was recursive, so `recurse` is not compared.
        equal(events["ExecutionTerminatedEvent"].input, '"stop"')
        ended = events["ExecutionCompletedEvent"]
        equal(ended.orchestration_status, pb.ORCHESTRATION_STATUS_TERMINATED)


@scenario
def long_history_is_streamed(hub):
    def collects(ctx, count):
        total = 0
        for _ in range(count):
            total += len((yield ctx.wait_for_external_event("item")))
        return total

    with hub.worker([collects]):
        instance_id = hub.start(collects, 200)
        text = "x" * 30_000
        for _ in range(200):
            hub.client.raise_orchestration_event(instance_id, "item", data=text)
        equal(hub.end(instance_id).get_output(), 200 * 30_000)
        raised = [event for event in hub.client.get_orchestration_history(instance_id) if type(event).__name__ == "EventRaisedEvent"]
        equal(len(raised), 200, "the events in a history of six megabytes")
        equal({len(event.input) for event in raised}, {30_002}, "their sizes")


@scenario
def changed_code_is_noticed(hub):
    """An orchestration whose code no longer fits its history fails, and says so."""
    name = hub.run + "_changes"

    def before(ctx, _):
        yield ctx.create_timer(timedelta(milliseconds=10))
        return (yield ctx.wait_for_external_event("go"))

    def after(ctx, _):
        yield ctx.call_activity("something_else")
        return (yield ctx.wait_for_external_event("go"))

    with hub.worker(named=[("orchestrator", name, before)]):
        instance_id = hub.start(name)
        hub.client.wait_for_orchestration_start(instance_id)
    with hub.worker(named=[("orchestrator", name, after)]):
        hub.client.raise_orchestration_event(instance_id, "go")
        failure = hub.end(instance_id).failure_details
        holds("NonDeterminism" in failure.error_type, f"the failure is {failure}")
