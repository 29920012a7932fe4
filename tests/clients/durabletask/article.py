"""The article "Manage orchestration instances" of the Durable Task SDKs, heading by heading, in Python: `article.py ADDRESS [--hub NAME]`.

Each function does what the Python lines below one heading do, with the client and worker that they use. README.md has the table.
"""

import argparse
import logging
import pathlib
import sys
import uuid
from datetime import datetime, timedelta, timezone

sys.path.insert(0, str(pathlib.Path(__file__).parent / "python"))

from durabletask.azuremanaged.client import DurableTaskSchedulerClient
from durabletask.azuremanaged.worker import DurableTaskSchedulerWorker
from durabletask.client import OrchestrationQuery, OrchestrationStatus

from harness import until

quiet = logging.getLogger("durabletask-article")
quiet.setLevel(logging.CRITICAL + 1)
run = uuid.uuid4().hex[:8]


def hello_world(ctx, name):
    return f"Hello, {name}!"


def my_orchestration(ctx, _):
    return (yield ctx.wait_for_external_event("MyEvent"))


def flaky_orchestration(ctx, _):
    return (yield ctx.call_activity(needs_configuration))


configured = False


def needs_configuration(ctx, _):
    if not configured:
        raise ValueError("the connection string is wrong")
    return "configured"


def started(client, orchestrator, input=None):
    instance_id = client.schedule_new_orchestration(orchestrator, input=input)
    state = client.wait_for_orchestration_start(instance_id, timeout=30)
    assert state is not None, "it started"
    return instance_id


def status_of(client, instance_id):
    state = client.get_orchestration_state(instance_id)
    return state.runtime_status if state else None


def start_instances(client):
    instance_id = client.schedule_new_orchestration(hello_world, input="Ada")
    state = client.wait_for_orchestration_start(instance_id, timeout=30)
    assert state.instance_id == instance_id and state.name == hello_world.__name__, state
    chosen = client.schedule_new_orchestration(hello_world.__name__, input="Ada", instance_id=f"chosen-{run}")
    assert chosen == f"chosen-{run}", chosen


def query_instances(client):
    instance_id = client.schedule_new_orchestration(hello_world, input="Ada")
    client.wait_for_orchestration_completion(instance_id, timeout=30)
    state = client.get_orchestration_state(instance_id, fetch_payloads=True)
    assert state is not None and state.runtime_status == OrchestrationStatus.COMPLETED, state
    assert state.get_input() == "Ada" and state.get_output() == "Hello, Ada!", state
    assert state.created_at <= state.last_updated_at, state
    assert client.get_orchestration_history(instance_id), "the history"
    assert client.get_orchestration_state(f"nobody-{run}") is None, "an instance that does not exist"


def query_all_instances(client):
    wanted = {client.schedule_new_orchestration(hello_world, input=str(number)) for number in range(3)}
    found = {state.instance_id for state in client.get_all_orchestration_states()}
    assert wanted <= found, wanted - found


def query_instances_with_filters(client):
    instance_id = started(client, my_orchestration)
    active = [OrchestrationStatus.RUNNING, OrchestrationStatus.PENDING]

    def found(days_from, days_to):
        now = datetime.now(timezone.utc)
        query = OrchestrationQuery(
            created_time_from=now + timedelta(days=days_from), created_time_to=now + timedelta(days=days_to), runtime_status=active
        )
        return {state.instance_id for state in client.get_all_orchestration_states(query)}

    assert instance_id in found(-7, 1), "the last seven days"
    assert instance_id not in found(-7, -1), "the days before yesterday"
    client.terminate_orchestration(instance_id)


def terminate_instances(client):
    instance_id = started(client, my_orchestration)
    reason = "Found a bug"
    client.terminate_orchestration(instance_id, output=reason)
    state = client.wait_for_orchestration_completion(instance_id, timeout=30)
    assert state.runtime_status == OrchestrationStatus.TERMINATED and state.get_output() == reason, state


def suspend_and_resume_instances(client):
    instance_id = started(client, my_orchestration)
    client.suspend_orchestration(instance_id, reason="Need to pause workflow")
    until("Suspended", lambda: status_of(client, instance_id) == OrchestrationStatus.SUSPENDED)
    client.resume_orchestration(instance_id, reason="Continue workflow")
    until("Running again", lambda: status_of(client, instance_id) == OrchestrationStatus.RUNNING)
    client.terminate_orchestration(instance_id)


def send_events_to_instances(client):
    early = client.schedule_new_orchestration(my_orchestration, start_at=datetime.now(timezone.utc) + timedelta(seconds=1))
    event_data = [1, 2, 3]
    for instance_id in (early, started(client, my_orchestration)):
        client.raise_orchestration_event(instance_id, "MyEvent", data=event_data)
        state = client.wait_for_orchestration_completion(instance_id, timeout=30)
        assert state.get_output() == event_data, state


def wait_for_orchestration_completion(client):
    instance_id = client.schedule_new_orchestration(hello_world, input="Ada")
    state = client.wait_for_orchestration_completion(instance_id, timeout=30, fetch_payloads=True)
    assert state.runtime_status == OrchestrationStatus.COMPLETED and state.serialized_output == '"Hello, Ada!"', state
    waiting = started(client, my_orchestration)
    try:
        client.wait_for_orchestration_completion(waiting, timeout=1)
        raise AssertionError("it completed without its event")
    except TimeoutError:
        client.terminate_orchestration(waiting)


def rewind_instances(client):
    global configured
    instance_id = client.schedule_new_orchestration(flaky_orchestration)
    state = client.wait_for_orchestration_completion(instance_id, timeout=30)
    assert state.runtime_status == OrchestrationStatus.FAILED, state
    configured = True
    client.rewind_orchestration(instance_id, reason="Orchestrator failed and needs to be revived.")
    until("Completed", lambda: status_of(client, instance_id) == OrchestrationStatus.COMPLETED)


def restart_instances(client):
    instance_id = client.schedule_new_orchestration(hello_world, input="Ada")
    client.wait_for_orchestration_completion(instance_id, timeout=30)
    new_instance_id = client.restart_orchestration(instance_id, restart_with_new_instance_id=True)
    assert new_instance_id != instance_id, new_instance_id
    assert client.restart_orchestration(instance_id, restart_with_new_instance_id=False) == instance_id
    for each in (new_instance_id, instance_id):
        state = client.wait_for_orchestration_completion(each, timeout=30)
        assert state.get_output() == "Hello, Ada!", state


def purge_instance_history(client):
    instance_id = client.schedule_new_orchestration(hello_world, input="Ada")
    client.wait_for_orchestration_completion(instance_id, timeout=30)
    result = client.purge_orchestration(instance_id)
    assert result.deleted_instance_count == 1, result
    thirty_days_ago = datetime.now(timezone.utc) - timedelta(days=30)
    old = client.purge_orchestrations_by(
        created_time_from=datetime.min, created_time_to=thirty_days_ago, runtime_status=[OrchestrationStatus.COMPLETED]
    )
    assert old.deleted_instance_count == 0, old
    running = started(client, my_orchestration)
    assert client.purge_orchestration(running).deleted_instance_count == 0, "an instance that runs is not purged"
    client.terminate_orchestration(running)


parser = argparse.ArgumentParser()
parser.add_argument("address")
parser.add_argument("--hub", default="default")
given = parser.parse_intermixed_args()
connection = {"host_address": given.address, "taskhub": given.hub, "secure_channel": False, "token_credential": None, "logger": quiet}

# Names of this run: another worker of the hub, such as the one of article.js, may have orchestrations of the same names.
for function in (hello_world, my_orchestration, flaky_orchestration, needs_configuration):
    function.__name__ += f"_{run}"
worker = DurableTaskSchedulerWorker(**connection)
for orchestrator in (hello_world, my_orchestration, flaky_orchestration):
    worker.add_orchestrator(orchestrator)
worker.add_activity(needs_configuration)
worker.use_work_item_filters()
with worker, DurableTaskSchedulerClient(**connection) as client:
    worker.start()
    headings = (
        start_instances,
        query_instances,
        query_all_instances,
        query_instances_with_filters,
        terminate_instances,
        suspend_and_resume_instances,
        send_events_to_instances,
        wait_for_orchestration_completion,
        rewind_instances,
        restart_instances,
        purge_instance_history,
    )
    for heading in headings:
        heading(client)
        print(f"  {heading.__name__.replace('_', ' ')} ... ok", flush=True)
    print(f"{len(headings)} headings passed")
