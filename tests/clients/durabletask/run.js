// The scenarios of the JavaScript SDK: `node run.js ADDRESS [--hub NAME] [--serve COMMAND] [--components] [WORD...]`.
//
// ADDRESS is host and port of a served hub; WORDs choose scenarios by their names. COMMAND starts a host of its own for the scenarios that
// kill one: `{data}` in it stands for the data directory, `{listen}` for the address, and it prints a JSON line with `url`. --components
// says that the samples hello-sequence and human-approval are deployed on the hub. CLIENT_MODULES names the folder with the SDK.
"use strict";

const fs = require("node:fs");
const path = require("node:path");
const { parseArgs } = require("node:util");
const { run } = require("./javascript/harness");

const folder = path.join(__dirname, "javascript");
for (const file of fs.readdirSync(folder).sort()) {
  if (file.startsWith("scenarios_")) require(path.join(folder, file));
}
const { values, positionals } = parseArgs({
  options: { hub: { type: "string", default: "default" }, serve: { type: "string" }, components: { type: "boolean" } },
  allowPositionals: true,
});
const [address, ...only] = positionals;
if (!address) throw new Error("run.js needs the address of a served hub, such as localhost:7071");
run(address, values, only).then((code) => process.exit(code));
