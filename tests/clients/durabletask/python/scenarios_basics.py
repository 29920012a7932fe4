"""Sequences, fan-out, combinators, timers, sub-orchestrations, custom status."""

import re
from datetime import datetime, timedelta, timezone

from durabletask import task

from harness import Status, equal, holds, scenario, until


def plus_one(ctx, number):
    return number + 1


def fresh(function):
    """A copy of a function, because a scenario gives it a name of its own."""

    def copy(ctx, input):
        return function(ctx, input)

    copy.__name__ = function.__name__
    return copy


@scenario
def orchestration_without_activities(hub):
    def says_hello(ctx, name):
        return f"Hello, {name}!"

    with hub.worker([says_hello]):
        equal(hub.output(says_hello, "Ada"), "Hello, Ada!")


@scenario
def sequence_of_ten_activities(hub):
    add = fresh(plus_one)

    def sequence(ctx, start):
        numbers = [start]
        for _ in range(10):
            numbers.append((yield ctx.call_activity(add, input=numbers[-1])))
        return numbers

    with hub.worker([sequence], [add]):
        equal(hub.output(sequence, 1), list(range(1, 12)))


@scenario
def fan_out_of_a_hundred(hub):
    add = fresh(plus_one)

    def fan_out(ctx, count):
        results = yield task.when_all([ctx.call_activity(add, input=number) for number in range(count)])
        return sum(results)

    with hub.worker([fan_out], [add]):
        equal(hub.output(fan_out, 100), 5050)


@scenario
def nested_when_all_and_when_any(hub):
    add = fresh(plus_one)

    def nested(ctx, _):
        pairs = [
            task.when_all([ctx.call_activity(add, input=10 * group), ctx.call_activity(add, input=10 * group + 1)])
            for group in range(3)
        ]
        never = ctx.wait_for_external_event("never")
        first = yield task.when_any([never, task.when_all(pairs)])
        return first.get_result()

    with hub.worker([nested], [add]):
        equal(hub.output(nested), [[1, 2], [11, 12], [21, 22]])


@scenario
def when_any_of_a_task_that_has_ended(hub):
    add = fresh(plus_one)

    def ended(ctx, _):
        first = ctx.call_activity(add, input=1)
        yield first
        winner = yield task.when_any([ctx.wait_for_external_event("never"), first])
        return [winner is first, winner.get_result()]

    with hub.worker([ended], [add]):
        equal(hub.output(ended), [True, 2])


@scenario
def when_all_reports_the_first_failure(hub):
    def fails_at_two(ctx, number):
        if number == 2:
            raise ValueError("two is not liked")
        return number

    def gathers(ctx, _):
        try:
            yield task.when_all([ctx.call_activity(fails_at_two, input=number) for number in range(4)])
        except task.TaskFailedError as error:
            return error.details.message
        return "no failure"

    with hub.worker([gathers], [fails_at_two]):
        equal(hub.output(gathers), "two is not liked")


@scenario
def timer_fires_when_due_and_not_before(hub):
    def sleeps(ctx, seconds):
        began = ctx.current_utc_datetime
        yield ctx.create_timer(timedelta(seconds=seconds))
        return (ctx.current_utc_datetime - began).total_seconds()

    with hub.worker([sleeps]):
        state = hub.end(hub.start(sleeps, 1.2))
        slept = state.get_output()
        holds(1.2 <= slept < 8, f"it slept {slept} s")
        lived = (state.last_updated_at - state.created_at).total_seconds()
        holds(lived >= 1.2, f"it lived {lived} s")


@scenario
def timer_in_the_past_fires_at_once(hub):
    def sleeps(ctx, _):
        yield ctx.create_timer(ctx.current_utc_datetime - timedelta(days=2))
        yield ctx.create_timer(timedelta(seconds=0))
        return "awake"

    with hub.worker([sleeps]):
        equal(hub.output(sleeps), "awake")


@scenario
def timer_of_years_is_kept(hub):
    """The worker splits long timers; the first part is what the hub sees."""

    def sleeps(ctx, days):
        long = ctx.create_timer(timedelta(days=days))
        event = ctx.wait_for_external_event("enough")
        winner = yield task.when_any([long, event])
        return "woken" if winner is event else "slept"

    with hub.worker([sleeps], maximum_timer_interval=None):
        instance_id = hub.start(sleeps, 4000)
        until("the timer is recorded", lambda: "TimerCreated" in hub.history(instance_id))
        timer = [event for event in hub.client.get_orchestration_history(instance_id) if hasattr(event, "fire_at")][0]
        days = (timer.fire_at - datetime.now(timezone.utc)).days
        holds(3998 <= days <= 4000, f"the timer is in {days} days")
        hub.client.raise_orchestration_event(instance_id, "enough")
        equal(hub.end(instance_id).get_output(), "woken")


@scenario
def time_of_the_orchestration_advances(hub):
    add = fresh(plus_one)

    def clock(ctx, _):
        first = ctx.current_utc_datetime
        yield ctx.call_activity(add, input=1)
        second = ctx.current_utc_datetime
        yield ctx.create_timer(timedelta(milliseconds=300))
        return [first.isoformat(), second.isoformat(), ctx.current_utc_datetime.isoformat()]

    with hub.worker([clock], [add]):
        before = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(seconds=2)
        times = [datetime.fromisoformat(text) for text in hub.output(clock)]
        holds(before <= times[0] <= times[1] < times[2], f"the times are {times}")


@scenario
def sub_orchestrations_return_their_results(hub):
    add = fresh(plus_one)

    def child(ctx, number):
        return (yield ctx.call_activity(add, input=number)) * 10

    def parent(ctx, count):
        return (yield task.when_all([ctx.call_sub_orchestrator(child, input=number) for number in range(count)]))

    with hub.worker([parent, child], [add]):
        equal(hub.output(parent, 5), [10, 20, 30, 40, 50])


@scenario
def sub_orchestration_knows_its_parent(hub):
    def child(ctx, _):
        return [ctx.instance_id, ctx.parent_instance_id]

    def parent(ctx, _):
        named = yield ctx.call_sub_orchestrator(child, instance_id=f"{ctx.instance_id}-kid")
        made_up = yield ctx.call_sub_orchestrator(child)
        return [ctx.parent_instance_id, named, made_up]

    with hub.worker([parent, child]):
        instance_id = hub.start(parent)
        nobody, named, made_up = hub.end(instance_id).get_output()
        equal(nobody, None, "the parent of the parent")
        equal(named, [f"{instance_id}-kid", instance_id])
        equal(made_up[1], instance_id)
        holds(re.fullmatch(re.escape(instance_id) + ":[0-9a-f]{4}", made_up[0]), f"the made-up id is {made_up[0]}")
        equal(hub.status(made_up[0]), Status.COMPLETED, "the status of the child")


@scenario
def sub_orchestrations_five_deep(hub):
    def descends(ctx, depth):
        if depth == 0:
            return [0]
        return [depth] + (yield ctx.call_sub_orchestrator(descends, input=depth - 1))

    with hub.worker([descends]):
        equal(hub.output(descends, 5), [5, 4, 3, 2, 1, 0])


@scenario
def custom_status_is_the_last_one_set(hub):
    def tells(ctx, _):
        ctx.set_custom_status({"step": 1})
        yield ctx.wait_for_external_event("go")
        ctx.set_custom_status({"step": 2, "done": True})
        return None

    with hub.worker([tells]):
        instance_id = hub.start(tells)
        state = until(
            "the first custom status",
            lambda: (found := hub.client.get_orchestration_state(instance_id)).serialized_custom_status and found,
        )
        equal(state.get_custom_status(), {"step": 1})
        hub.client.raise_orchestration_event(instance_id, "go")
        equal(hub.end(instance_id).get_custom_status(), {"step": 2, "done": True})


@scenario
def guids_are_the_same_in_a_replay(hub):
    add = fresh(plus_one)

    def guids(ctx, _):
        first = ctx.new_uuid()
        yield ctx.call_activity(add, input=1)
        second = ctx.new_uuid()
        yield ctx.call_activity(add, input=2)
        return [first, second, ctx.new_uuid()]

    with hub.worker([guids], [add]):
        made = hub.output(guids)
        equal(len(set(made)), 3, "the number of different ids")


@scenario
def completes_while_tasks_are_open(hub):
    """An orchestration is complete when it returns: open timers and waits do not hold it."""

    def leaves(ctx, _):
        ctx.create_timer(timedelta(days=1))
        ctx.wait_for_external_event("never")
        return "left"
        yield

    with hub.worker([leaves]):
        equal(hub.output(leaves), "left")
