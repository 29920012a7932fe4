// An orchestration in JavaScript that calls an activity of a WebAssembly component and one of its own.
"use strict";

const path = require("node:path");
const { createRequire } = require("node:module");
const { parseArgs } = require("node:util");
// NODE_MODULES names another folder with the packages than the one beside this file.
const load = createRequire(process.env.NODE_MODULES || path.join(__dirname, "node_modules"));
const sdk = load("@microsoft/durabletask-js");
const { Metadata } = load("@grpc/grpc-js");

async function* postcards(ctx, cities) {
  // The hub runs SayHello in its sandbox: hello-sequence, which is deployed there, defines it.
  const greetings = yield sdk.whenAll(cities.map((city) => ctx.callActivity("SayHello", city)));
  return yield ctx.callActivity(sign, greetings);
}

async function sign(_, greetings) {
  return greetings.map((greeting) => `${greeting} Yours, JavaScript`);
}

/** Address and hub, from the command line; the hub's name goes with each call. */
function connection() {
  const { values, positionals } = parseArgs({ options: { hub: { type: "string", default: "default" } }, allowPositionals: true });
  const metadataGenerator = async () => {
    const metadata = new Metadata();
    metadata.set("taskhub", values.hub);
    return metadata;
  };
  return { hostAddress: positionals[0] ?? "localhost:7071", metadataGenerator, logger: new sdk.NoOpLogger() };
}

module.exports = { ...sdk, connection, postcards, sign };
