"""One hub for workers and for WebAssembly components: each calls what the other defines."""

from datetime import timedelta

from durabletask import task

from harness import Status, equal, holds, scenario, until


@scenario(needs="components")
def activity_of_a_component(hub):
    def greets(ctx, cities):
        return (yield task.when_all([ctx.call_activity("SayHello", input=city) for city in cities]))

    with hub.worker([greets]):
        equal(hub.output(greets, ["Oslo", "Rome"]), ["Hello Oslo!", "Hello Rome!"])


@scenario(needs="components")
def orchestration_of_a_component_as_a_child(hub):
    def parent(ctx, _):
        greetings = yield ctx.call_sub_orchestrator("HelloSequence", instance_id=f"{ctx.instance_id}-kid")
        return len(greetings)

    with hub.worker([parent]):
        instance_id = hub.start(parent)
        equal(hub.end(instance_id).get_output(), 3)
        equal(hub.end(f"{instance_id}-kid").get_output(), ["Hello Tokyo!", "Hello Seattle!", "Hello London!"])


@scenario(needs="components")
def orchestration_of_a_component_started_by_the_sdk(hub):
    equal(hub.output("HelloSequence"), ["Hello Tokyo!", "Hello Seattle!", "Hello London!"])
    instance_id = hub.start("Approve", {"purpose": "a chair"})
    hub.becomes(instance_id, Status.RUNNING)
    hub.client.suspend_orchestration(instance_id)
    hub.becomes(instance_id, Status.SUSPENDED)
    hub.client.resume_orchestration(instance_id)
    hub.client.raise_orchestration_event(instance_id, "Decision", data={"approved": True, "by": "Ada"})
    state = hub.end(instance_id)
    equal(state.runtime_status, Status.COMPLETED)
    holds("Ada" in state.serialized_output, state.serialized_output)
    kinds = hub.history(instance_id)
    equal([kinds[0], kinds[1], kinds[-1]], ["OrchestratorStarted", "ExecutionStarted", "ExecutionCompleted"])
    holds("EventRaised" in kinds, f"the history is {kinds}")


@scenario(needs="components")
def worker_sends_a_component_an_event(hub):
    def decides(ctx, to):
        ctx.send_event(to, "Decision", data={"approved": True, "by": ctx.instance_id})
        yield ctx.create_timer(timedelta(milliseconds=20))
        return "decided"

    with hub.worker([decides]):
        to = hub.start("Approve", {"purpose": "a desk"})
        equal(hub.output(decides, to, instance_id=hub.id("decides")), "decided")
        holds(hub.id("decides") in hub.end(to).serialized_output, "the decision is the worker's")


@scenario(needs="components")
def component_in_a_family_is_terminated_and_purged(hub):
    def parent(ctx, _):
        return (yield ctx.call_sub_orchestrator("Approve", input={"purpose": "x"}, instance_id=f"{ctx.instance_id}-kid"))

    with hub.worker([parent]):
        instance_id = hub.start(parent)
        kid = f"{instance_id}-kid"
        until("the component runs", lambda: hub.status(kid) == Status.RUNNING)
        hub.client.terminate_orchestration(instance_id, recursive=True)
        for each in (instance_id, kid):
            equal(hub.end(each).runtime_status, Status.TERMINATED)
        equal(hub.client.purge_orchestration(instance_id, recursive=True).deleted_instance_count, 2)
