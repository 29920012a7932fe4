"""Failures: their types, messages, causes and properties, through activities and sub-orchestrations."""

from durabletask import task
from google.protobuf import struct_pb2

from harness import equal, holds, pb, scenario


class Details:
    """Gives properties to the failures of a worker."""

    def get_exception_properties(self, exception):
        return {"code": 42, "where": ["a", {"b": None}], "fatal": True} if isinstance(exception, LookupError) else None


def breaks(ctx, _):
    try:
        raise ValueError("the cause")
    except ValueError as cause:
        raise LookupError("the failure") from cause


@scenario
def failure_of_an_orchestration(hub):
    def fails(ctx, _):
        raise ValueError("wrong")

    with hub.worker([fails]):
        failure = hub.failure(fails)
        equal([failure.error_type, failure.message], ["builtins.ValueError", "wrong"])
        holds("fails" in failure.stack_trace, f"the trace is {failure.stack_trace!r}")


@scenario
def failure_chain_of_an_activity(hub):
    def breaks_here(ctx, input):
        return breaks(ctx, input)

    def calls(ctx, _):
        return (yield ctx.call_activity(breaks_here))

    with hub.worker([calls], [breaks_here], exception_properties_provider=Details()):
        failure = hub.failure(calls)
        chain = []
        while failure:
            chain.append((failure.error_type.rsplit(".")[-1], failure.message, failure.properties or {}))
            failure = failure.inner_failure
        equal([kind for kind, _, _ in chain], ["TaskFailedError", "LookupError", "ValueError"], "the types")
        equal([chain[1][1], chain[2][1]], ["the failure", "the cause"], "the messages")
        equal(chain[1][2], {"code": 42, "where": ["a", {"b": None}], "fatal": True}, "the properties")


@scenario
def failure_of_a_child_is_what_it_was(hub):
    def child(ctx, input):
        return breaks(ctx, input)
        yield

    def parent(ctx, _):
        try:
            yield ctx.call_sub_orchestrator(child)
        except task.TaskFailedError as error:
            details = error.details
            return [details.error_type, details.message, details.inner_failure.message, details.properties]

    with hub.worker([parent, child], exception_properties_provider=Details()):
        properties = {"code": 42, "where": ["a", {"b": None}], "fatal": True}
        equal(hub.output(parent), ["builtins.LookupError", "the failure", "the cause", properties])


@scenario
def failure_is_caught_and_compensated(hub):
    done = []

    def books(ctx, what):
        if what == "car":
            raise RuntimeError("no cars")
        done.append(what)
        return what

    def cancels(ctx, what):
        done.remove(what)

    def trip(ctx, _):
        booked = []
        try:
            for what in ("flight", "hotel", "car"):
                booked.append((yield ctx.call_activity(books, input=what)))
        except task.TaskFailedError as error:
            for what in reversed(booked):
                yield ctx.call_activity(cancels, input=what)
            return f"cancelled: {error.details.message}"

    with hub.worker([trip], [books, cancels]):
        equal(hub.output(trip), "cancelled: no cars")
        equal(done, [], "the bookings")


@scenario
def failure_fields_are_kept_verbatim(hub):
    """What the Python SDK does not show: isNonRetriable, and each field of inner failures."""
    name = hub.run + "_raw"
    text = struct_pb2.Value(string_value="x")
    inner = pb.TaskFailureDetails(errorType="Inner", errorMessage="in", isNonRetriable=True, properties={"k": text})
    outer = pb.TaskFailureDetails(errorType="Outer", errorMessage="", innerFailure=inner, isNonRetriable=True)
    outer.stackTrace.value = "at here\n  at there"
    with hub.stub() as stub:
        filters = pb.WorkItemFilters(orchestrations=[pb.OrchestrationFilter(name=name)])
        stream = stub.GetWorkItems(pb.GetWorkItemsRequest(maxConcurrentOrchestrationWorkItems=1, workItemFilters=filters))
        instance_id = hub.start(name)
        item = next(item for item in stream if item.HasField("orchestratorRequest"))
        complete = pb.CompleteOrchestrationAction(
            orchestrationStatus=pb.ORCHESTRATION_STATUS_FAILED, failureDetails=outer
        )
        stub.CompleteOrchestratorTask(
            pb.OrchestratorResponse(
                instanceId=instance_id,
                actions=[pb.OrchestratorAction(id=1, completeOrchestration=complete)],
                completionToken=item.completionToken,
            )
        )
        ended = stub.WaitForInstanceCompletion(pb.GetInstanceRequest(instanceId=instance_id, getInputsAndOutputs=True))
        stream.cancel()
        equal(ended.orchestrationState.failureDetails, outer, "the failure")
