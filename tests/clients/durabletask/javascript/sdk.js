// The SDK, from the folder that CLIENT_MODULES names.
"use strict";

const path = require("node:path");
const from = process.env.CLIENT_MODULES || path.join(__dirname, "..", "node_modules");
const load = (name) => require(path.join(from, name));

module.exports = {
  ...load("@microsoft/durabletask-js"),
  GrpcClient: load("@microsoft/durabletask-js/dist/client/client-grpc").GrpcClient,
  pb: load("@microsoft/durabletask-js/dist/proto/orchestrator_service_pb"),
  StringValue: load("google-protobuf/google/protobuf/wrappers_pb").StringValue,
  grpc: load("@grpc/grpc-js"),
};
