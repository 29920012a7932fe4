// The client: it starts an instance, waits for it, and prints its result.
"use strict";

const { TaskHubGrpcClient, connection, postcards } = require("./workflow");

async function main() {
  const client = new TaskHubGrpcClient(connection());
  const instanceId = await client.scheduleNewOrchestration(postcards, ["Tokyo", "Seattle", "London"]);
  const state = await client.waitForOrchestrationCompletion(instanceId, true, 60);
  state.raiseIfFailed();
  console.log(state.serializedOutput);
  await client.stop();
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
