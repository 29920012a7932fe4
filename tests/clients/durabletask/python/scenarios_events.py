"""External events: buffered, awaited, cancelled, sent between orchestrations, carried over by continue-as-new."""

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import grpc
from durabletask import task

from harness import Status, equal, holds, pb, refused, scenario, until


@scenario
def event_before_and_while_waiting(hub):
    def waits(ctx, _):
        yield ctx.create_timer(timedelta(milliseconds=400))
        early = yield ctx.wait_for_external_event("early")
        late = yield ctx.wait_for_external_event("late")
        return [early, late]

    with hub.worker([waits]):
        instance_id = hub.start(waits)
        hub.client.raise_orchestration_event(instance_id, "early", data={"n": 1})
        until("early has arrived", lambda: "EventRaised" in hub.history(instance_id))
        hub.client.raise_orchestration_event(instance_id, "late", data=[2])
        equal(hub.end(instance_id).get_output(), [{"n": 1}, [2]])


@scenario
def event_right_after_the_start_is_not_lost(hub):
    def waits(ctx, _):
        return (yield ctx.wait_for_external_event("now"))

    for_each = range(10)
    ids = [hub.start(hub.named(waits)[0]) for _ in for_each]
    for number in for_each:
        hub.client.raise_orchestration_event(ids[number], "now", data=number)
    with hub.worker([waits]):
        equal([hub.end(instance_id).get_output() for instance_id in ids], list(for_each))


@scenario
def events_of_one_name_come_in_order(hub):
    def collects(ctx, count):
        found = []
        for _ in range(count):
            found.append((yield ctx.wait_for_external_event("item")))
        return found

    with hub.worker([collects]):
        instance_id = hub.start(collects, 30)
        for number in range(30):
            hub.client.raise_orchestration_event(instance_id, "item", data=number)
        equal(hub.end(instance_id).get_output(), list(range(30)))


@scenario
def event_names_ignore_case(hub):
    def waits(ctx, _):
        return (yield ctx.wait_for_external_event("Approval"))

    with hub.worker([waits]):
        instance_id = hub.start(waits)
        hub.client.raise_orchestration_event(instance_id, "aPPROVAL", data="yes")
        equal(hub.end(instance_id).get_output(), "yes")


@scenario
def waiters_of_one_name_are_served_in_order(hub):
    def waits(ctx, _):
        waiters = [ctx.wait_for_external_event("item") for _ in range(3)]
        return (yield task.when_all(waiters))

    with hub.worker([waits]):
        instance_id = hub.start(waits)
        for letter in "abc":
            hub.client.raise_orchestration_event(instance_id, "item", data=letter)
        equal(hub.end(instance_id).get_output(), ["a", "b", "c"])


@scenario
def cancelled_waiter_takes_no_event(hub):
    def waits(ctx, _):
        first = ctx.wait_for_external_event("item")
        timer = ctx.create_timer(timedelta(milliseconds=300))
        winner = yield task.when_any([first, timer])
        holds(winner is timer and first.cancel(), "the timer wins")
        ctx.set_custom_status("cancelled")
        return (yield ctx.wait_for_external_event("item"))

    with hub.worker([waits]):
        instance_id = hub.start(waits)
        until("the waiter is cancelled", lambda: hub.client.get_orchestration_state(instance_id).serialized_custom_status)
        hub.client.raise_orchestration_event(instance_id, "item", data="kept")
        equal(hub.end(instance_id).get_output(), "kept")


@scenario
def event_beats_a_timer_and_cancels_it(hub):
    def waits(ctx, _):
        event = ctx.wait_for_external_event("approval")
        timer = ctx.create_timer(timedelta(days=1))
        winner = yield task.when_any([event, timer])
        timer.cancel()
        return winner is event

    with hub.worker([waits]):
        instance_id = hub.start(waits)
        hub.client.raise_orchestration_event(instance_id, "approval")
        equal(hub.end(instance_id).get_output(), True)


@scenario
def orchestrations_send_each_other_events(hub):
    def receiver(ctx, _):
        return (yield ctx.wait_for_external_event("note"))

    def sender(ctx, to):
        ctx.send_event(to, "note", data={"from": ctx.instance_id})
        yield ctx.create_timer(timedelta(milliseconds=50))
        return "sent"

    with hub.worker([receiver, sender]):
        to = hub.start(receiver)
        sent = hub.start(sender, to)
        equal(hub.end(sent).get_output(), "sent")
        equal(hub.end(to).get_output(), {"from": sent})
        holds("EventSent" in hub.history(sent), "the history of the sender has the event")


@scenario
def event_to_nobody_is_dropped(hub):
    """An orchestration may send to an instance that is missing or over: nobody hears of it, and it goes on."""

    def over(ctx, _):
        return None

    def sender(ctx, to):
        for instance_id in [*to, f"{ctx.instance_id}-missing"]:
            ctx.send_event(instance_id, "note", data=1)
        yield ctx.create_timer(timedelta(milliseconds=50))
        return "went on"

    with hub.worker([over, sender]):
        ended = hub.start(over)
        hub.end(ended)
        equal(hub.output(sender, [ended]), "went on")


@scenario
def event_sent_as_the_last_act_is_delivered(hub):
    def receiver(ctx, _):
        return (yield ctx.wait_for_external_event("bye"))

    def sender(ctx, to):
        ctx.send_event(to, "bye", data=7)
        return "gone"

    with hub.worker([receiver, sender]):
        to = hub.start(receiver)
        equal(hub.output(sender, to), "gone")
        equal(hub.end(to).get_output(), 7)


@scenario
def event_from_a_client_to_the_missing(hub):
    with refused(grpc.StatusCode.NOT_FOUND):
        hub.client.raise_orchestration_event(hub.id("missing"), "note", data=1)


@scenario
def continue_as_new_counts(hub):
    def counts(ctx, number):
        if number < 20:
            ctx.continue_as_new(number + 1)
            return None
        return number

    with hub.worker([counts]):
        instance_id = hub.start(counts, 1)
        state = hub.end(instance_id)
        equal(state.get_output(), 20)
        equal(state.get_input(), 20, "the input of the last execution")
        holds(len(hub.history(instance_id)) < 8, f"the history is {hub.history(instance_id)}")


@scenario
def continue_as_new_with_saved_events(hub):
    def collects(ctx, found):
        found.append((yield ctx.wait_for_external_event("item")))
        if len(found) < 12:
            ctx.continue_as_new(found, save_events=True)
            return None
        return found

    with hub.worker([collects]):
        instance_id = hub.start(collects, [])
        for number in range(12):
            hub.client.raise_orchestration_event(instance_id, "item", data=number)
        equal(hub.end(instance_id).get_output(), list(range(12)))


@scenario
def continue_as_new_while_events_come(hub):
    """A generation for each event, and events at any time: none is lost, and none comes twice."""

    def adds(ctx, state):
        state["sum"] += yield ctx.wait_for_external_event("item")
        state["count"] += 1
        if state["count"] < 60:
            ctx.continue_as_new(state, save_events=True)
            return None
        return state

    with hub.worker([adds]):
        instance_id = hub.start(adds, {"sum": 0, "count": 0})
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda n: hub.client.raise_orchestration_event(instance_id, "item", data=n), range(60)))
        equal(hub.end(instance_id).get_output(), {"sum": 1770, "count": 60})


@scenario
def continue_as_new_without_saved_events(hub):
    """Events that were received and not awaited are gone with the execution, if the orchestration does not save them."""

    def forgets(ctx, round):
        if round == 0:
            yield ctx.wait_for_external_event("go")
            ctx.continue_as_new(1, save_events=False)
            return None
        event = ctx.wait_for_external_event("item")
        winner = yield task.when_any([event, ctx.create_timer(timedelta(milliseconds=500))])
        return winner is event

    with hub.worker([forgets]):
        instance_id = hub.start(forgets, 0)
        hub.client.raise_orchestration_event(instance_id, "item", data=1)
        until("the item has arrived", lambda: "EventRaised" in hub.history(instance_id))
        hub.client.raise_orchestration_event(instance_id, "go")
        equal(hub.end(instance_id).get_output(), False, "that the item was kept")


@scenario
def continue_as_new_with_activities_and_a_new_version(hub):
    def times_two(ctx, number):
        return number * 2

    def doubles(ctx, number):
        doubled = yield ctx.call_activity(times_two, input=number)
        if doubled < 100:
            ctx.continue_as_new(doubled, new_version="2.5")
            return None
        return [doubled, ctx.version]

    with hub.worker([doubles], [times_two]):
        equal(hub.output(doubles, 1, version="1.0"), [128, "2.5"])


@scenario
def continue_as_new_keeps_tags_and_changes_the_execution(hub):
    def twice(ctx, round):
        yield ctx.wait_for_external_event("go")
        if round == 1:
            ctx.continue_as_new(2)
            return None
        return "done"

    with hub.worker([twice]), hub.stub() as stub:
        instance_id = hub.start(twice, 1, tags={"colour": "red"})
        seen = []
        for _ in range(2):
            hub.becomes(instance_id, Status.RUNNING)
            state = stub.GetInstance(pb.GetInstanceRequest(instanceId=instance_id)).orchestrationState
            equal(dict(state.tags), {"colour": "red"}, "the tags")
            seen.append(state.executionId.value)
            hub.client.raise_orchestration_event(instance_id, "go")
            until(
                "another execution, or the end",
                lambda: (now := stub.GetInstance(pb.GetInstanceRequest(instanceId=instance_id)).orchestrationState)
                and (now.executionId.value != seen[-1] or now.orchestrationStatus == pb.ORCHESTRATION_STATUS_COMPLETED),
            )
        equal(len(set(seen)), 2, "the number of execution ids")
        holds(all(len(text) == 32 for text in seen), f"the execution ids are {seen}")
