"""The client: it starts an instance, waits for it, and prints its result."""

import json

from durabletask.client import TaskHubGrpcClient

from workflow import connection, postcards

with TaskHubGrpcClient(**connection()) as client:
    instance_id = client.schedule_new_orchestration(postcards, input=["Tokyo", "Seattle", "London"])
    state = client.wait_for_orchestration_completion(instance_id, timeout=60)
    state.raise_if_failed()
    print(json.dumps(state.get_output()))
