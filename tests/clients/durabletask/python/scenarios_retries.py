"""Retries: policies of activities and of sub-orchestrations, and the failures that end them."""

from datetime import timedelta

from durabletask import task

from harness import Status, equal, holds, scenario


def policy(attempts, first=0.05, **options):
    return task.RetryPolicy(first_retry_interval=timedelta(seconds=first), max_number_of_attempts=attempts, **options)


def flaky(failures: int):
    """An activity that fails a number of times for each input, and its count of calls."""
    calls = {}

    def sometimes(ctx, key):
        calls[key] = calls.get(key, 0) + 1
        if calls[key] <= failures:
            raise RuntimeError(f"attempt {calls[key]} failed")
        return calls[key]

    return sometimes, calls


@scenario
def activity_is_retried_until_it_succeeds(hub):
    sometimes, calls = flaky(2)

    def retries(ctx, key):
        return (yield ctx.call_activity(sometimes, input=key, retry_policy=policy(5)))

    with hub.worker([retries], [sometimes]):
        equal(hub.output(retries, "a"), 3)
        equal(calls, {"a": 3}, "the calls")


@scenario
def activity_fails_when_its_attempts_are_used(hub):
    sometimes, calls = flaky(9)

    def retries(ctx, key):
        return (yield ctx.call_activity(sometimes, input=key, retry_policy=policy(3)))

    with hub.worker([retries], [sometimes]):
        failure = hub.failure(retries, "a")
        holds("attempt 3 failed" in failure.message, failure)
        equal(calls, {"a": 3}, "the calls")


@scenario
def retries_back_off(hub):
    sometimes, _ = flaky(2)

    def retries(ctx, key):
        began = ctx.current_utc_datetime
        yield ctx.call_activity(sometimes, input=key, retry_policy=policy(3, 0.4, backoff_coefficient=2.0))
        return (ctx.current_utc_datetime - began).total_seconds()

    with hub.worker([retries], [sometimes]):
        took = hub.output(retries, "a")
        holds(1.2 <= took < 10, f"0.4 s and 0.8 s of waits took {took} s")


@scenario
def retries_wait_at_most_the_longest_interval(hub):
    sometimes, _ = flaky(3)

    def retries(ctx, key):
        longest = timedelta(seconds=0.2)
        patient = policy(4, 0.2, backoff_coefficient=50.0, max_retry_interval=longest)
        return (yield ctx.call_activity(sometimes, input=key, retry_policy=patient))

    with hub.worker([retries], [sometimes]):
        equal(hub.output(retries, "a"), 4)


@scenario
def retries_end_with_their_time(hub):
    sometimes, calls = flaky(1000)

    def retries(ctx, key):
        return (yield ctx.call_activity(sometimes, input=key, retry_policy=policy(1000, 0.5, retry_timeout=timedelta(seconds=3))))

    with hub.worker([retries], [sometimes]):
        hub.failure(retries, "a")
        holds(2 <= calls["a"] <= 8, f"{calls['a']} attempts in three seconds")


@scenario
def sub_orchestration_is_retried(hub):
    calls = []

    def child(ctx, _):
        calls.append(ctx.instance_id)
        if len(calls) < 3:
            raise RuntimeError(f"attempt {len(calls)} failed")
        return "at last"

    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator(child, retry_policy=policy(5)))

    with hub.worker([parent, child]):
        equal(hub.output(parent), "at last")
        equal(len(calls), 3, "the calls")
        equal(len(set(calls)), 1, "the number of ids of the child, which each attempt replaces")


@scenario
def sub_orchestration_fails_when_its_attempts_are_used(hub):
    def child(ctx, _):
        raise RuntimeError("never")

    def parent(ctx, _):
        try:
            yield ctx.call_sub_orchestrator(child, instance_id=f"{ctx.instance_id}-kid", retry_policy=policy(2))
        except task.TaskFailedError as error:
            return [error.details.error_type, error.details.message]

    with hub.worker([parent, child]):
        instance_id = hub.start(parent)
        error_type, message = hub.end(instance_id).get_output()
        holds(error_type.endswith("RuntimeError"), f"the type of the child's failure is {error_type}")
        equal(message, "never")
        equal(hub.status(f"{instance_id}-kid"), Status.FAILED)


@scenario
def retries_in_a_fan_out_do_not_mix(hub):
    sometimes, calls = flaky(1)

    def retries(ctx, keys):
        return (yield task.when_all([ctx.call_activity(sometimes, input=key, retry_policy=policy(3)) for key in keys]))

    with hub.worker([retries], [sometimes]):
        equal(hub.output(retries, list("abcdefgh")), [2] * 8)
        equal(set(calls.values()), {2}, "the calls of each")
