"""Versions of orchestrations, and the filters by which workers say which work items they take."""

import time

from durabletask.worker import (
    ActivityWorkItemFilter,
    OrchestrationWorkItemFilter,
    VersionFailureStrategy,
    VersioningOptions,
    VersionMatchStrategy,
    WorkItemFilters,
)

from harness import Status, equal, holds, scenario


def tells(hub):
    def tells_version(ctx, _):
        return ctx.version

    return hub.named(tells_version)[0]


def options(version, match, failure=VersionFailureStrategy.FAIL, default=None):
    return VersioningOptions(version=version, default_version=default, match_strategy=match, failure_strategy=failure)


def only(hub, *names, versions=(), activities=()):
    """A filter by name and version."""
    return WorkItemFilters(
        orchestrations=[OrchestrationWorkItemFilter(name, list(versions)) for name in names],
        activities=[ActivityWorkItemFilter(name, list(versions)) for name in activities],
    )


@scenario
def version_none_takes_every_version(hub):
    tell = tells(hub)
    with hub.worker([tell], versioning=options("2.0", VersionMatchStrategy.NONE)):
        for version in (None, "1.0", "2.0", "9.9.9", "beta"):
            equal(hub.output(tell, version=version), version)


@scenario
def version_strict_fails_others(hub):
    tell = tells(hub)
    strict = options("2.0", VersionMatchStrategy.STRICT)
    with hub.worker([tell], versioning=strict, filters=only(hub, tell.__name__)):
        equal(hub.output(tell, version="2.0"), "2.0")
        for version in ("1.0", "2.1", None):
            equal(hub.failure(tell, version=version).error_type, "VersionMismatch", f"the failure of {version}")


@scenario
def version_current_or_older(hub):
    tell = tells(hub)
    with hub.worker([tell], versioning=options("2.0", VersionMatchStrategy.CURRENT_OR_OLDER)):
        for version in (None, "1.0", "1.10", "2.0"):
            equal(hub.output(tell, version=version), version)
        for version in ("2.0.1", "10.0"):
            equal(hub.failure(tell, version=version).error_type, "VersionMismatch", f"the failure of {version}")


@scenario
def rejected_version_waits_for_another_worker(hub):
    tell = tells(hub)
    name = tell.__name__
    old = options("1.0", VersionMatchStrategy.CURRENT_OR_OLDER, VersionFailureStrategy.REJECT)
    with hub.worker([tell], versioning=old):
        instance_id = hub.start(tell, version="2.0")
        equal(hub.output(tell, version="1.0"), "1.0")
        time.sleep(0.5)
        holds(hub.status(instance_id) in (Status.PENDING, Status.RUNNING), "it waits")
        new = options("2.0", VersionMatchStrategy.CURRENT_OR_OLDER, VersionFailureStrategy.REJECT)
        with hub.worker(named=[("orchestrator", name, tell)], versioning=new):
            equal(hub.end(instance_id).get_output(), "2.0")


@scenario
def default_versions_of_client_and_worker(hub):
    def child(ctx, _):
        return ctx.version

    def parent(ctx, _):
        by_default = yield ctx.call_sub_orchestrator(child)
        explicit = yield ctx.call_sub_orchestrator(child, version="7.7")
        return [ctx.version, by_default, explicit]

    with hub.worker([parent, child], versioning=options(None, VersionMatchStrategy.NONE, default="3.0")):
        hub.client.default_version = "1.2"
        equal(hub.output(parent), ["1.2", "3.0", "7.7"])


@scenario
def filter_by_name(hub):
    def first(ctx, _):
        return "first worker"

    def second(ctx, _):
        return "second worker"

    with hub.worker([first]), hub.worker([second]):
        equal([hub.output(first), hub.output(second)], ["first worker", "second worker"])


@scenario
def filter_by_version(hub):
    name = hub.run + "_versioned"
    with (
        hub.worker(named=[("orchestrator", name, lambda ctx, _: "one")], filters=only(hub, name, versions=["1.0"])),
        hub.worker(named=[("orchestrator", name, lambda ctx, _: "two")], filters=only(hub, name, versions=["2.0", "2.1"])),
    ):
        found = [hub.output(name, version=version) for version in ("1.0", "2.0", "2.1", "1.0")]
        equal(found, ["one", "two", "two", "one"])
        other = hub.start(name, version="3.0")
        time.sleep(0.5)
        equal(hub.status(other), Status.PENDING, "the status of a version that nobody takes")
        with hub.worker(named=[("orchestrator", name, lambda ctx, _: "any")], filters=only(hub, name)):
            equal(hub.end(other).get_output(), "any")


@scenario
def filter_of_activities_takes_the_version_of_the_orchestration(hub):
    """The SDK calls activities without a version: they count as of the version of their orchestration."""

    def works(ctx, _):
        return "done"

    def calls(ctx, _):
        return (yield ctx.call_activity(works))

    hub.named(works, calls)
    filters = only(hub, calls.__name__, versions=["3.0.0"], activities=[works.__name__])
    with hub.worker([calls], [works], filters=filters):
        equal(hub.output(calls, version="3.0.0"), "done")


@scenario
def activities_on_a_worker_of_their_own(hub):
    def works(ctx, number):
        return number * number

    def calls(ctx, number):
        return (yield ctx.call_activity(works, input=number))

    hub.named(works, calls)
    with hub.worker([calls]):
        instance_id = hub.start(calls, 7)
        time.sleep(0.5)
        equal(hub.status(instance_id), Status.RUNNING, "the status without a worker for the activity")
        with hub.worker(activities=[works]):
            equal(hub.end(instance_id).get_output(), 49)


@scenario
def instance_waits_for_a_worker(hub):
    tell = tells(hub)
    instance_id = hub.start(tell, version="1")
    time.sleep(0.3)
    equal(hub.status(instance_id), Status.PENDING)
    with hub.worker([tell]):
        equal(hub.end(instance_id).get_output(), "1")


@scenario(alone=True)
def worker_without_filters_takes_everything(hub):
    def known(ctx, _):
        return (yield ctx.call_activity(f"{hub.run}-unknown-activity"))

    with hub.worker([known], filters=None):
        failure = hub.failure(f"{hub.run}-unknown-orchestration")
        holds("was not registered" in failure.message, f"the failure is {failure}")
        failure = hub.failure(known)
        holds("was not registered" in failure.message, f"the failure is {failure}")
