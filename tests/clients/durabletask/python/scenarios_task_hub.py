"""The calls by which a suite resets its hub."""

import grpc

from harness import Status, equal, holds, pb, refused, scenario, until


@scenario(alone=True)
def create_and_delete_the_task_hub(hub):
    def waits(ctx, _):
        return (yield ctx.wait_for_external_event("go"))

    with hub.worker([waits]), hub.stub() as stub:
        for reset in (
            lambda: stub.CreateTaskHub(pb.CreateTaskHubRequest(recreateIfExists=True)),
            lambda: stub.DeleteTaskHub(pb.DeleteTaskHubRequest()),
        ):
            instance_id = hub.start(waits)
            hub.becomes(instance_id, Status.RUNNING)
            stub.CreateTaskHub(pb.CreateTaskHubRequest(recreateIfExists=False))
            equal(hub.status(instance_id), Status.RUNNING, "the status after a hub was created that is there")
            reset()
            until("the hub is empty", lambda: hub.status(instance_id) is None)
        equal(hub.client.get_all_orchestration_states(), [], "the instances of the hub")
        instance_id = hub.start(waits)
        hub.client.raise_orchestration_event(instance_id, "go", data=1)
        equal(hub.end(instance_id).get_output(), 1)


@scenario
def hub_that_is_not_served(hub):
    with hub.stub() as stub:
        stub.metadata = [("taskhub", "no-such-hub")]
        with refused(grpc.StatusCode.NOT_FOUND, hub.name):
            stub.GetInstance(pb.GetInstanceRequest(instanceId="x"))
        stub.metadata = []
        holds(not stub.GetInstance(pb.GetInstanceRequest(instanceId=hub.id("x"))).exists, "no hub named is the served one")


@scenario
def entities_are_answered_with_unimplemented(hub):
    with hub.stub() as stub, refused(grpc.StatusCode.UNIMPLEMENTED):
        stub.SignalEntity(pb.SignalEntityRequest(instanceId="@counter@one", name="add", requestId="1"))
