// A host in a process of its own.

import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";

/** A host in a directory of its own. */
export class Host {
  constructor(program, args = []) {
    this.program = program;
    this.args = args;
    this.data = mkdtempSync(join(tmpdir(), "perennial-browser-"));
  }

  async start(listen = "127.0.0.1:0") {
    const args = ["--data-dir", this.data, "serve", "--json", "--log", "warn", "--listen", listen, ...this.args];
    this.child = spawn(this.program, args, { stdio: ["ignore", "pipe", "pipe"] });
    this.log = "";
    this.child.stderr.on("data", (text) => (this.log += text));
    for await (const line of createInterface({ input: this.child.stdout })) {
      const ready = JSON.parse(line);
      if (ready.url) {
        this.url = ready.url;
        return this;
      }
    }
    throw new Error(`the host did not start: ${this.log}`);
  }

  async stop(signal = "SIGTERM") {
    if (this.child.exitCode !== null || this.child.signalCode !== null) return;
    const ended = once(this.child, "exit");
    this.child.kill(signal);
    await ended;
  }

  /** Starts again on the same address, after an end of any kind. */
  async again(signal) {
    await this.stop(signal);
    return this.start(new URL(this.url).host);
  }

  async close() {
    await this.stop();
    rmSync(this.data, { recursive: true, force: true });
  }

  /** Runs a command of the program on this hub, and returns what it printed. */
  async run(...args) {
    const child = spawn(this.program, ["--data-dir", this.data, ...args], { stdio: ["ignore", "pipe", "pipe"] });
    let out = "", err = "";
    child.stdout.on("data", (text) => (out += text));
    child.stderr.on("data", (text) => (err += text));
    const [code] = await once(child, "close");
    if (code !== 0) throw new Error(`perennial ${args.join(" ")} ended with ${code}: ${err}`);
    return out.trim();
  }

  /** Asks the API, and returns its JSON. */
  async api(method, path, body, headers = {}) {
    const answer = await fetch(`${this.url}/api/v1${path}`, {
      method,
      headers: body === undefined ? headers : { "content-type": "application/json", ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await answer.text();
    if (!answer.ok) throw new Error(`${method} ${path}: ${answer.status} ${text}`);
    return text ? JSON.parse(text) : undefined;
  }

  async begin(name, input, more = {}) {
    const started = await this.api("POST", "/instances", { name, input, ...more });
    return started.instanceId ?? started.id;
  }

  async until(id, statuses) {
    for (;;) {
      const status = await this.api("GET", `/instances/${encodeURIComponent(id)}/wait?timeout=20`);
      if (statuses.includes(status.runtimeStatus)) return status;
    }
  }

  page(path = "/") {
    return `${this.url}/ui/default${path}`;
  }
}
