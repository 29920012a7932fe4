//! The closing part of each help text: examples, JSON shapes, exit codes.

/// Exit codes of the process.
pub(super) const EXIT_CODES: &str = "\
Exit codes:
  0  done; for run, wait and start --wait: the instance Completed
  1  error, or the instance ended Failed or Terminated
  2  the command line makes no sense
  3  no such instance, module, orchestration or task hub
  4  the instance, name or task hub is in a state that forbids it
  5  timed out waiting; the instance goes on
  6  check: something is wrong with the hub; deploy --check: a live instance could not go on, or it needs --replace; replay: a history does not fit

`perennial COMMAND --help` shows examples.";

pub(super) const MAIN: &str = "\
Examples:
  perennial run hello.wasm                       deploy, run and print the result
  perennial serve                                run the task hub in .perennial
  perennial deploy fan-out.wasm --grant-dir .    with a directory for its activities
  perennial start FanOut --input '{\"root\": \".\"}' --wait
  perennial list --status Running

Exit codes:
  0  done; for run, wait and start --wait: the instance Completed
  1  error, or the instance ended Failed or Terminated
  2  the command line makes no sense
  3  no such instance, module, orchestration or task hub
  4  the instance, name or task hub is in a state that forbids it
  5  timed out waiting; the instance goes on
  6  check: something is wrong with the hub; deploy --check: a live instance could not go on, or it needs --replace; replay: a history does not fit

JSON: with --json, stdout has data and nothing else, times are RFC 3339 in UTC, and what is absent is left \
out. An error is one object on stderr: {\"error\": {\"code\", \"exitCode\", \"message\", \"causes\", \
\"hint\"}}. Its code says what went wrong more precisely than the exit code, such as notFound, quotaExceeded, forbidden or \
unreachable; it is the same as in the HTTP API.";

pub(super) const RUN: &str = "\
Where a host owns the task hub, the instance runs there. Otherwise this process is the host until the instance \
has ended; interrupted, it keeps the instance, and `perennial serve` goes on with it.

Examples:
  perennial run hello.wasm
  perennial run hello.wasm HelloSequence --id hello-1 --timeout 1m
  perennial run fan-out.wasm --grant-dir .::/data --input '{\"root\": \"/data\"}'
  perennial run orders.wasm Ship --input @order.json
  echo '\"a text is JSON with quotes\"' | perennial run echo.wasm --input -

Stdout: the result, as the JSON that the orchestration returned. With --json: the instance, as `perennial \
status --json` shows it.";

pub(super) const DEPLOY: &str = "\
Live instances stay with the module that they started on. To roll back, deploy the older file again, or with --stored \
what the task hub has kept of it. With --check \
nothing is deployed: the histories of all live instances of its orchestrations are replayed on the module, and the \
output says for each whether it could go on with it (`perennial resume --module`) or what differs. The exit code is \
then 6 if one could not, or if the deployment would need --replace.

A deployment that grants anything replaces all that the module was granted before, and says what changes; one that \
grants nothing keeps it. `perennial grants` adds to it.

Examples:
  perennial deploy hello.wasm
  perennial deploy build/*.wasm
  perennial deploy fan-out.wasm --grant-dir .::/data --grant-dir ./out::/out:rw
  perennial deploy mail.wasm --grant-env SMTP_HOST=localhost --grant-env SMTP_PASSWORD
  perennial deploy orders.wasm --allow-http api.example.com --allow-http localhost:8080
  perennial deploy --check orders.wasm && perennial deploy orders.wasm
  perennial deploy --stored 4f1d08c2

JSON: [{module, digest, names: [{kind, name, change: new|updated|unchanged, before}]}]; with --check, [{module, \
digest, names: [{kind, name, change: new|updated|unchanged|taken|dropped, before, owner}], imports: {added, \
removed}, grants: {before, after}, compatible, incompatible, instances: [{instanceId, name, runtimeStatus, module, \
outcome: compatible|differs|notDefined|ended|busy, reason, turn, event, recorded, asked}]}]";

pub(super) const GRANTS: &str = "\
Grants belong to a module's name, also for instances that are pinned to an older version of it. A change counts from \
the next attempt of an activity on.

Examples:
  perennial grants
  perennial grants orders --allow-http api.example.com
  perennial grants orders --set --grant-dir ./data::/data --grant-env TOKEN
  perennial grants orders --set

JSON: {MODULE: {dirs: [{host, guest, writable}], env: [NAME], httpHosts: [HOST]}}";

pub(super) const MODULES: &str = "\
`imports` lists the imports that reach outside the sandbox; activities get only what is `granted`.

Examples:
  perennial modules
  perennial modules --json | jq -r '.[].name'
  perennial modules --gc --dry-run
  perennial modules remove orders
  perennial modules --stored
  perennial modules save 4f1d08c2 orders-before.wasm

`--gc` deletes the modules that nothing points to: no name and no version that could be started, no instance that \
is live or Failed, nothing that waits to be tried again. Their compiled code goes with them.

JSON: [{name, digest, definitions: [{kind, name, version, description, inputSchema}], imports, grants: {dirs: \
[{host, guest, writable}], env: [NAME], httpHosts: [HOST]}, limits: {fuel, memoryBytes}, deployedTime, size}]; with --gc, {dryRun, collected: \
[{digest, size}]}; with --stored, [{digest, contract, definitions, imports, size, storedTime, deployedAs: [NAME], \
versionsOf: [NAME]}]; of remove, {removed}; of save, {digest, file, size}";

pub(super) const SERVE: &str = "\
One host owns a task hub in a file; any number share one in PostgreSQL. Every other command works beside it, and without it too, but then nothing runs. The \
first signal stops gracefully: pending commits finish, and running activities are interrupted and run again at \
the next start. A second signal stops at once, and loses nothing that was committed.

The HTTP API is that of Durable Functions, below /runtime/webhooks/durabletask, with /healthz, /readyz and \
/metrics beside it.

Examples:
  perennial serve
  perennial serve --listen 0.0.0.0:7071 --tls-cert cert.pem --tls-key key.pem
  perennial serve --listen none
  perennial serve --max-activities 8 --log perennial=debug,info
  PERENNIAL_DATA_DIR=/var/lib/perennial perennial serve --log-json 2>> perennial.log

Stdout: a line when it is ready, and one when it has stopped.
JSON: {event: ready, taskHub, file, pid, instances, url} and {event: stopped, taskHub, left: {STATUS: n}, stats: \
{turns, ended, ...}}";

pub(super) const START: &str = "\
Returns when the start is durable. Nothing runs until a host owns the task hub: see `perennial serve`.

Examples:
  perennial start HelloSequence
  perennial start Ship --id order-17 --input '{\"pieces\": 3}' --tag customer=acme
  perennial start Ship --id order-17 --reuse never
  perennial start Report --at 2026-01-31T06:00+01:00
  perennial start Report --after 30m --wait=start
  id=$(perennial start HelloSequence)

Stdout: the id; with --wait, the result on the next line.
JSON: {instanceId, name, hosted}; with --wait, the instance as `perennial status --json` shows it.";

pub(super) const STATUS: &str = "\
Shows the status of an instance, when it was created, started and last updated, its module, and what it waits for: \
events, activities with their attempts, timers and children. If it failed or is quarantined, it shows why. The time in \
parentheses after `started` and `updated` is counted from the line before.

Examples:
  perennial status order-17
  perennial status order-17 --input --history
  perennial status order-17 --tree
  perennial status order-17 --urls http://localhost:7071/runtime/webhooks/durabletask
  perennial status order-17 --json | jq .waitsFor

JSON: {instanceId, name, runtimeStatus, createdTime, scheduledTime, startedTime, lastUpdatedTime, executionId, run, version, \
module, input, customStatus, output, failure: {kind, message, retryable, details, trace, causes}, \
parentInstanceId, tags, values, rewinds: [{time, reason}], quarantine: {reason, turn, event, recorded, asked, module, \
host, time}, waitsFor: [{kind: externalEvent|activity|worker|timer|start|child|resume|note|quarantine|host|firstTurn|nothing, name, task, \
attempt, state: running|queued|waiting, worker: waits|runs|unknown, runningSince, nextAttemptTime, lastFailure, failedAttempts: [{attempt, \
startedAt, endedAt, failure}], due, instanceId, runtimeStatus, whenDropped, note, reason}], waitsForMore, eventsWithoutEffect: [name], pendingCancellation: {time, reason, graceMillis}, stillRuns: [as waitsFor; of one that has ended], historyEvents, historyBytes, history: as `perennial history --json` shows it}; with --tree, {instance, children: \
[the same], leftBehind: [the same], more}; with --urls, {id, statusQueryGetUri, sendEventPostUri, terminatePostUri, rewindPostUri, \
purgeHistoryDeleteUri, restartPostUri, suspendPostUri, resumePostUri}";

pub(super) const HISTORY: &str = "\
Examples:
  perennial history order-17
  perennial history order-17 --from 4000
  perennial history order-17 --timeline
  perennial history order-17 --json | jq '.[] | select(.event == \"ActivityFailed\")'

JSON: [{number, turn, at, event, ...}], with the fields of each kind of event: now, instanceId, executionId, name, \
version, runBy: worker|native|module DIGEST, input, parentInstanceId, module, tags, task, output, failure, attempt, startedAt, endedAt, eventNumber, data, \
fireAt, value, cause, reason, due. Payloads are whole there; the table cuts \
them. With --timeline, [{task, kind: activity|child|timer|event, name, scheduledMs, startedMs, endedMs, attempts, \
outcome: open|completed|failed|fired|canceled|raised, failed: [{attempt, startedMs, endedMs, failure}]}], in milliseconds since the execution began.";

pub(super) const LIST: &str = "\
Times are ISO 8601, with or without seconds and zone; UTC where there is none.

Examples:
  perennial list --status Running,Suspended
  perennial list --prefix order- --created-from 2026-01-31 --created-to 2026-02-01T12:00+01:00
  perennial list --name Ship --tag customer=acme --oldest-first
  perennial list --name Ship --counts
  perennial list --watch=5s --status Running

JSON: {instances: [as status shows it, without waitsFor and history; input and output where asked for], \
continuationToken}; with --counts, {STATUS: n}; with --watch, a line whenever something has changed";

pub(super) const WAIT: &str = "\
Examples:
  perennial wait order-17
  perennial wait order-17 --timeout 5m && echo shipped
  perennial wait order-17 --for start

Stdout: the result, as the JSON that the orchestration returned; with --for start, the status.
JSON: the instance, as `perennial status --json` shows it.";

pub(super) const RAISE_EVENT: &str = "\
The event is kept until the orchestration awaits one with this name.

Examples:
  perennial raise-event order-17 Approved
  perennial raise-event order-17 Approved --data '{\"by\": \"kim\"}'
  perennial raise-event order-17 Document --data @document.json
  perennial raise-event cart-alice Seen --data '\"home page\"' --or-start Cart

JSON: {instanceId, command: raiseEvent, hosted}";

pub(super) const CANCEL: &str = concat!(
    perennial::cancel_explained!(),
    "

Examples:
  perennial cancel order-17 --reason 'ordered twice'
  perennial cancel order-17 --grace 10m --wait --timeout 10m
  perennial cancel --tag customer=acme --yes

JSON: {instanceId, command: cancel, hosted, changed}; of many, {matched, done, skipped, dryRun, asOf, newer, hosted}; with --wait, the instance as `perennial status --json` shows it."
);

pub(super) const TERMINATE: &str = concat!(
    "An instance that has not begun ends at once. ",
    perennial::terminated_children_explained!(),
    "; with --recursive all children end too, and activities of modules are interrupted. If it is terminated twice, the first reason is kept.

An ended instance may have left children and activities that go on: `perennial status` shows them as still running, \
and --recursive stops them, at any depth below it.

Examples:
  perennial terminate order-17 --reason 'ordered twice'
  perennial terminate order-17 --recursive --wait
  perennial terminate --status Running --name Ship --dry-run
  perennial terminate --tag customer=acme --yes

JSON: {instanceId, command: terminate, hosted, changed}; of many, {matched, done, skipped, dryRun, asOf, newer, hosted}; with --wait, the instance as `perennial status --json` shows it."
);

pub(super) const SUSPEND: &str = "\
Running activities finish, and their results are kept.

Examples:
  perennial suspend order-17 --reason 'the warehouse is closed'
  perennial suspend --name Ship

JSON: {instanceId, command: suspend, hosted, changed}; of many, {matched, done, skipped, dryRun, asOf, newer, hosted}";

pub(super) const RESUME: &str = "\
Everything that arrived meanwhile is delivered in order. An instance is quarantined if its module no longer \
replays its history: `perennial status` says what differs. To resume it replays the history again, on its own module \
or on the one that --module gives, by name or by the first digits of its digest. If that differs too, the instance \
stays as it is, and the exit code is 4.

Examples:
  perennial resume order-17
  perennial resume order-17 --module orders-fixed
  perennial resume order-17 --module 5f1e07c2

JSON: {instanceId, command: resume, hosted, changed}; with --module, the instance as `perennial status --json` shows it.";

pub(super) const DURABLE: &str = "\
The verbs, flags, texts and exit codes of `func durable`: 0 or 1. A storage connection is a data directory here.

Examples:
  perennial durable start-new --function-name HelloWorld --input @counter-data.json --task-hub-name TestTaskHub
  perennial durable get-runtime-status --id order-17 --show-input true --show-output true
  perennial durable get-instances --created-after 2021-03-10T13:57:31Z --runtime-status 'running pending' --top 15
  perennial durable raise-event --id order-17 --event-name Approved --event-data true
  STORE=/var/lib/perennial perennial durable get-instances --connection-string-setting STORE

JSON: what get-runtime-status, get-history and get-instances print is JSON in any case; with --json, the others \
print what start, raise-event and so on do.";

pub(super) const CHECK: &str = "\
Checks the file with SQLite's own check, every history by the rules that wrote it, and every live instance by \
replaying it on the module that it is pinned to (instances of remote workers have none). It writes nothing, and a host may run the hub at the same time; \
instances that change too fast to be checked are counted as `moved`. The exit code is 6 if something is wrong: then \
`perennial restore` makes a hub from a backup.

Examples:
  perennial check
  perennial --task-hub orders check --json | jq .problems

JSON: {taskHub, sound, fileProblems, instances, replayed, turns, moved, problems: [{instanceId, name, runtimeStatus, \
reason, turn?, event?, recorded?, asked?}]}";

pub(super) const BACKUP: &str = "\
The file is the hub as it was at one moment: instances, histories, modules and what they are granted. It appears \
under its name when it is complete and synced.

Examples:
  perennial backup monday.db
  perennial --task-hub orders backup /backups/orders-$(date +%F).db

JSON: {taskHub, file, bytes}";

pub(super) const RESTORE: &str = "\
The task hub named by --task-hub must not exist yet. Once a host runs it, its instances go on from the moment of \
the backup; activities whose results came later run again, with the same idempotency keys.

Examples:
  perennial --task-hub monday restore monday.db
  perennial --data-dir /var/lib/perennial restore /backups/default.db

JSON: {taskHub, file, bytes}";

pub(super) const PURGE: &str = "\
Only instances that have ended are deleted, in small batches that do not hold up a running host. The command may be \
interrupted and repeated. Without --recursive the children stay, and are mentioned; --recursive deletes them later \
too. A host deletes ended instances by itself after the times of `perennial hubs set --retain-completed`.

Examples:
  perennial purge order-17
  perennial purge order-17 --recursive
  perennial purge order-17 --recursive --dry-run
  perennial purge --status Completed --created-to 2026-01-31 --dry-run
  perennial purge --all --yes

JSON: {instanceId, deleted, childrenLeft, dryRun}; of many, {matched, done, skipped, dryRun, asOf, newer, hosted}";

pub(super) const HUBS: &str = "\
A task hub is a file in the data directory, or a schema of a database (--store). Commands on one hub do not affect the others. `hubs show` \
lists the hosts that share a hub in a database, with the partitions of each, the age of its lease, and what it lacks.

Examples:
  perennial hubs
  perennial hubs create billing
  perennial hubs show billing
  perennial hubs set billing --retain-completed 7d --retain-failed 30d --retain-terminated none
  perennial hubs compact billing

JSON: [{taskHub, file, bytes, createdTime, owner, problem}]; show: {taskHub, file, bytes, createdTime, owner, \
instances: {STATUS: n}, historyTurns, historyEvents, historyBytes, modules, storedModules, moduleBytes, usedBytes, freeBytes, hasGarbage, \
partitions, freePartitions, waitingMessages, hosts: [{name, processId, machine, url, version, partitions, leaseAgeMillis, transactions, lacks, isThis}], \
retention: {completed, failed, terminated}}; set: {completed, failed, terminated}, in milliseconds or null; \
compact: {taskHub, bytesBefore, bytes}";

pub(super) const DELETE_TASK_HUB: &str = "\
Everything in it is lost: instances, histories and modules.

Examples:
  perennial delete-task-hub billing
  perennial delete-task-hub billing --yes

JSON: {taskHub, deleted}";
pub(super) const NEW: &str = "\
The SDK and the contract of this version are written beside the project, so it builds anywhere.

Examples:
  perennial new order-flow
  cd order-flow && perennial build && perennial run target/order-flow.wasm

Stdout: the directory.
JSON: {name, dir, orchestration}";

pub(super) const BUILD: &str = "\
Uses the compiler's target wasm32-wasip2 or, on Debian, the packages rustc-web, rust-web-src and wasi-libc; where \
there is neither it says how to get one. The file is target/NAME.wasm, or in CARGO_TARGET_DIR.

Examples:
  perennial build
  perennial deploy $(perennial build order-flow)

Stdout: the file, a line for each.
JSON: [{name, file, digest, size}]";

pub(super) const INSPECT: &str = "\
Needs no task hub. Runs no code of the file but the functions that list its definitions.

Examples:
  perennial inspect target/order-flow.wasm
  perennial inspect app.wasm --json | jq .grantable

JSON: {name, digest, contract, size, definitions: [{kind, name, version, description, inputSchema}], imports, \
grantable: [directories|environment|http]}";

pub(super) const DEV: &str = "\
Runs the task hub itself, and shows its log on stderr; where another process runs it, only builds and deploys.

Examples:
  perennial dev
  perennial dev --start OrderFlow --input '\"you\"'
  perennial dev order-flow --grant-dir ./data::/data --log debug

Stdout: what each deployment changed, and how what it started ended.
JSON: {event: deployed, module, digest} and {event: ended, instance: as `perennial status --json` shows it}";

pub(super) const DOCTOR: &str = "\
The exit code is 1 if nothing works on the hub; a warning means that some commands do not work yet.

Examples:
  perennial doctor
  perennial doctor --task-hub orders --json | jq -r '.[] | select(.level != \"ok\") | .fix'

JSON: [{check, level: ok|warning|failure, found, fix}]";

pub(super) const COMPLETIONS: &str = "\
Examples:
  perennial completions bash > ~/.local/share/bash-completion/completions/perennial
  perennial completions zsh > ~/.zfunc/_perennial
  perennial completions fish > ~/.config/fish/completions/perennial.fish

JSON: none; the script is the data.";

pub(super) const MAN: &str = "\
Examples:
  perennial man ~/.local/share/man/man1 && man perennial-start

Stdout: the files, a line for each.
JSON: {dir, files: [NAME]}";

pub(super) const WORKERS: &str = "\
A remote worker is a program that runs orchestrations and activities in its own process and is connected to the host \
by gRPC. The first table lists the workers, with the names that each runs and how many at once; the second what they \
run now; the third what waits because no connected worker runs it or has room.

Examples:
  perennial workers
  perennial --url https://flows.example.com workers
  perennial workers --json | jq '.waiting[].name'

JSON: {connected: [{name, connectedTime, orchestrations: [{name, versions}], activities: [{name, versions}], \
orchestrationsMax, activitiesMax, answered, running: [{kind: orchestration|activity, name, version, instanceId, task, \
runningSince}]}], waiting: [{kind: orchestration|activity, name, version, count}]}; a worker without orchestrations or \
activities runs all of them.";

pub(super) const KEYS: &str = "\
A caller sends its key as the parameter `code`, as the header `x-functions-key`, or as a bearer token. The hub keeps \
only a hash of it. A key that was revoked is refused from the next request on.

Examples:
  perennial keys create deploys
  key=$(perennial keys create dashboard --read-only)
  perennial keys revoke 1f2e3d4c

Stdout: create prints the key, list a line for each.
JSON: {id, name, role, createdTime}, and for create also key; revoke: {id, revoked}";
