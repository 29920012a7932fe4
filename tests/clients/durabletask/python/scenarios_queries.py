"""Queries: by status, time, prefix; pages; ids of ended instances in the order of their ends; tags."""

from datetime import datetime, timedelta, timezone

from durabletask.client import OrchestrationQuery, TaskHubGrpcClient
from google.protobuf.wrappers_pb2 import StringValue

from harness import QUIET, Status, equal, holds, pb, scenario


def mixed(hub):
    """An orchestration that ends, fails or waits, as its input says."""

    def mixes(ctx, what):
        if what == "fail":
            raise ValueError("as told")
        if what == "wait":
            yield ctx.wait_for_external_event("go")
        return what

    return hub.named(mixes)[0]


def ids(states):
    return sorted(state.instance_id for state in states)


@scenario
def query_by_status_and_prefix(hub):
    mix = mixed(hub)
    with hub.worker([mix]):
        good, bad, open_ = (hub.start(mix, what, instance_id=hub.id(what)) for what in ("good", "fail", "wait"))
        for instance_id in (good, bad):
            hub.end(instance_id)
        hub.becomes(open_, Status.RUNNING)
        for statuses, wanted in (
            (None, [good, bad, open_]),
            ([Status.COMPLETED], [good]),
            ([Status.FAILED, Status.RUNNING], [bad, open_]),
            ([Status.TERMINATED], []),
        ):
            query = OrchestrationQuery(runtime_status=statuses, instance_id_prefix=hub.run)
            equal(ids(hub.client.get_all_orchestration_states(query)), sorted(wanted), f"the instances of {statuses}")
        one = OrchestrationQuery(instance_id_prefix=hub.id("goo"), fetch_inputs_and_outputs=True)
        (state,) = hub.client.get_all_orchestration_states(one)
        equal([state.name, state.get_input(), state.get_output()], [mix.__name__, "good", "good"])
        one.fetch_inputs_and_outputs = False
        (state,) = hub.client.get_all_orchestration_states(one)
        equal([state.serialized_input, state.serialized_output], [None, None])
        equal(hub.client.get_all_orchestration_states(OrchestrationQuery(instance_id_prefix=hub.id("nobody"))), [])


@scenario
def query_by_time(hub):
    mix = mixed(hub)
    with hub.worker([mix]):
        before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
        instance_id = hub.start(mix, "good")
        hub.end(instance_id)
        after = datetime.now(timezone.utc) + timedelta(milliseconds=1)

        def found(**times):
            return ids(hub.client.get_all_orchestration_states(OrchestrationQuery(instance_id_prefix=hub.run, **times)))

        equal(found(created_time_from=before), [instance_id])
        equal(found(created_time_from=before, created_time_to=after), [instance_id])
        equal(found(created_time_to=before), [])
        equal(found(created_time_from=after), [])


@scenario
def query_in_pages(hub):
    mix = mixed(hub)
    with hub.worker([mix]), hub.stub() as stub:
        wanted = [hub.start(mix, "good", instance_id=hub.id(f"{number:02}")) for number in range(25)]
        for instance_id in wanted:
            hub.end(instance_id)
        query = OrchestrationQuery(instance_id_prefix=hub.run, max_instance_count=10)
        equal(ids(hub.client.get_all_orchestration_states(query)), wanted, "the instances of all pages")
        sizes, token = [], None
        while True:
            asked = pb.InstanceQuery(instanceIdPrefix=StringValue(value=hub.run), maxInstanceCount=10)
            if token:
                asked.continuationToken.CopyFrom(token)
            page = stub.QueryInstances(pb.QueryInstancesRequest(query=asked))
            sizes.append(len(page.orchestrationState))
            if not page.HasField("continuationToken") or not page.continuationToken.value:
                break
            token = page.continuationToken
        equal(sizes, [10, 10, 5], "the sizes of the pages")


@scenario
def page_of_large_instances_fits_a_default_client(hub):
    """A client that raises no limits reads messages of 4 MiB: a page ends before that, whatever the client asks for."""

    def echoes(ctx, text):
        return text

    with hub.worker([echoes]):
        wanted = [hub.start(echoes, "x" * 100_000, instance_id=hub.id(f"{number:02}")) for number in range(60)]
        for instance_id in wanted:
            hub.end(instance_id)
        with TaskHubGrpcClient(host_address=hub.address, metadata=hub.metadata, logger=QUIET) as client:
            query = OrchestrationQuery(instance_id_prefix=hub.run, fetch_inputs_and_outputs=True)
            found = client.get_all_orchestration_states(query)
        equal(ids(found), wanted, "the instances of all pages")
        equal({len(state.get_output()) for state in found}, {100_000}, "the sizes of their outputs")


@scenario
def ids_of_ended_instances_in_pages(hub):
    mix = mixed(hub)
    with hub.worker([mix]):
        before = datetime.now(timezone.utc) - timedelta(milliseconds=1)
        wanted = []
        for number in range(7):
            wanted.append(hub.start(mix, "fail" if number == 3 else "good", instance_id=hub.id(f"{9 - number}")))
            hub.end(wanted[-1])
        open_ = hub.start(mix, "wait")
        hub.becomes(open_, Status.RUNNING)
        after = datetime.now(timezone.utc) + timedelta(seconds=1)

        def pages(**filters):
            found, token = [], None
            while True:
                page = hub.client.list_instance_ids(page_size=3, continuation_token=token, **filters)
                holds(len(page.items) <= 3, f"a page has {len(page.items)} ids")
                found += [instance_id for instance_id in page.items if instance_id.startswith(hub.run)]
                token = page.continuation_token
                if not token:
                    return found

        equal(pages(completed_time_from=before, completed_time_to=after), wanted, "the ids in the order of their ends")
        failed = pages(completed_time_from=before, runtime_status=[Status.FAILED])
        equal(failed, [wanted[3]], "the ids of the failed")
        equal(pages(completed_time_to=before), [], "the ids of a time before")


@scenario
def tags_of_an_instance(hub):
    mix = mixed(hub)
    with hub.worker([mix]), hub.stub() as stub:
        instance_id = hub.start(mix, "good", tags={"team": "red", "empty": ""})
        hub.end(instance_id)
        state = stub.GetInstance(pb.GetInstanceRequest(instanceId=instance_id)).orchestrationState
        equal(dict(state.tags), {"team": "red", "empty": ""})
        query = pb.InstanceQuery(instanceIdPrefix=StringValue(value=hub.run), maxInstanceCount=5)
        (state,) = stub.QueryInstances(pb.QueryInstancesRequest(query=query)).orchestrationState
        equal(dict(state.tags), {"team": "red", "empty": ""}, "the tags in a query")


@scenario
def state_has_its_times_and_its_parent(hub):
    def child(ctx, _):
        return 1

    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator(child, instance_id=f"{ctx.instance_id}-kid"))

    with hub.worker([parent, child]), hub.stub() as stub:
        before = datetime.now(timezone.utc).replace(tzinfo=None) - timedelta(seconds=2)
        instance_id = hub.start(parent, version="4.2")
        hub.end(instance_id)
        kid = stub.GetInstance(pb.GetInstanceRequest(instanceId=f"{instance_id}-kid")).orchestrationState
        equal(kid.parentInstanceId.value, instance_id, "the parent of the child")
        state = stub.GetInstance(pb.GetInstanceRequest(instanceId=instance_id)).orchestrationState
        equal([state.HasField("parentInstanceId"), state.version.value], [False, "4.2"])
        created, updated, completed = (
            stamp.ToDatetime() for stamp in (state.createdTimestamp, state.lastUpdatedTimestamp, state.completedTimestamp)
        )
        holds(before <= created <= completed <= updated + timedelta(milliseconds=1), f"{created}, {completed}, {updated}")
