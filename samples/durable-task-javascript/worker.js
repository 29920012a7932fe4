// The worker: it runs the orchestration and its activity, until it is interrupted.
"use strict";

const { TaskHubGrpcWorker, connection, postcards, sign } = require("./workflow");

// "auto": take only what is registered here; all else of the hub is for its components, and for other workers.
const worker = new TaskHubGrpcWorker({ ...connection(), workItemFilters: "auto" });
worker.addOrchestrator(postcards);
worker.addActivity(sign);
worker.start();
for (const signal of ["SIGINT", "SIGTERM"]) process.on(signal, () => worker.stop().then(() => process.exit(0)));
