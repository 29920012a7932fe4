"""What every scenario uses: a hub to talk to, workers with names of their own, and the runner."""

import contextlib
import json
import logging
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback
import uuid
from concurrent.futures import ThreadPoolExecutor, wait

import grpc
from durabletask.client import OrchestrationStatus as Status
from durabletask.client import TaskHubGrpcClient
from durabletask.grpc_options import GrpcChannelOptions, GrpcWorkerResiliencyOptions
from durabletask.internal import orchestrator_service_pb2 as pb  # noqa: F401, the scenarios take it from here
from durabletask.internal import orchestrator_service_pb2_grpc as stubs
from durabletask.worker import ConcurrencyOptions, TaskHubGrpcWorker

SECONDS = 30
TOGETHER = 12
LARGE = GrpcChannelOptions(max_receive_message_length=64 << 20, max_send_message_length=64 << 20)
QUIET = logging.getLogger("durabletask-scenarios")
QUIET.setLevel(logging.CRITICAL + 1)


def equal(actual, wanted, what="the value"):
    assert actual == wanted, f"{what} is {actual!r}, not {wanted!r}"


def holds(condition, what):
    assert condition, what


@contextlib.contextmanager
def refused(code: grpc.StatusCode, words: str = ""):
    """The call in this block fails with a status code, and with a text that contains these words."""
    try:
        yield
    except grpc.RpcError as error:
        equal(error.code(), code, f"the status code ({error.details()!r})")
        holds(words in error.details(), f"{error.details()!r} does not say {words!r}")
        return
    raise AssertionError(f"the call was not refused with {code.name}")


def until(what: str, condition, seconds: float = 20):
    """Asks until the condition gives something."""
    end = time.monotonic() + seconds
    while True:
        found = condition()
        if found:
            return found
        holds(time.monotonic() < end, f"{what}: not within {seconds} s")
        time.sleep(0.05)


class Hub:
    """A task hub at an address, as one scenario sees it: its names and instance ids begin with the scenario's name."""

    def __init__(self, address: str, name: str, scenario: str, serve: str | None = None):
        self.address, self.name, self.serve = address, name, serve
        self.scenario = scenario
        self.run = f"{scenario}-{uuid.uuid4().hex[:8]}"
        self.metadata = [("taskhub", name)]
        self.client = TaskHubGrpcClient(host_address=address, metadata=self.metadata, channel_options=LARGE, logger=QUIET)

    def id(self, part: str) -> str:
        return f"{self.run}-{part}"

    def named(self, *functions):
        """Gives functions a name that only this scenario has, so that scenarios at the same time share no worker."""
        for function in functions:
            if not function.__name__.startswith(self.run):
                function.__name__ = f"{self.run}_{function.__name__}"
        return functions

    @contextlib.contextmanager
    def worker(self, orchestrators=(), activities=(), named=(), filters="own", versioning=None, **options):
        """A worker that runs in this block. `named` has triples: "orchestrator" or "activity", a name, a function."""
        options.setdefault("concurrency_options", ConcurrencyOptions(maximum_thread_pool_workers=24))
        worker = TaskHubGrpcWorker(
            host_address=self.address,
            metadata=self.metadata,
            channel_options=LARGE,
            logger=QUIET,
            resiliency_options=GrpcWorkerResiliencyOptions(
                reconnect_backoff_base_seconds=0.1, reconnect_backoff_cap_seconds=0.5
            ),
            **options,
        )
        for function in self.named(*orchestrators):
            worker.add_orchestrator(function)
        for function in self.named(*activities):
            worker.add_activity(function)
        for kind, name, function in named:
            add = worker._registry.add_named_orchestrator if kind == "orchestrator" else worker._registry.add_named_activity
            add(name, function)
        if versioning is not None:
            worker.use_versioning(versioning)
        if filters == "own":
            worker.use_work_item_filters()
        elif filters is not None:
            worker.use_work_item_filters(filters)
        worker.start()
        try:
            yield worker
        finally:
            worker.stop()

    def start(self, orchestrator, input=None, **options) -> str:
        options.setdefault("instance_id", self.id(uuid.uuid4().hex[:8]))
        return self.client.schedule_new_orchestration(orchestrator, input=input, **options)

    def end(self, instance_id: str, seconds: float = 25):
        state = self.client.wait_for_orchestration_completion(instance_id, timeout=seconds)
        holds(state is not None, f"{instance_id} does not exist")
        return state

    def output(self, orchestrator, input=None, **options):
        """Runs an orchestration to its end, and gives its output."""
        state = self.end(self.start(orchestrator, input, **options))
        equal(state.runtime_status, Status.COMPLETED, f"the status ({state.failure_details})")
        return state.get_output()

    def failure(self, orchestrator, input=None, **options):
        """Runs an orchestration that must fail, and gives the failure."""
        state = self.end(self.start(orchestrator, input, **options))
        equal(state.runtime_status, Status.FAILED, "the status")
        return state.failure_details

    def status(self, instance_id: str):
        state = self.client.get_orchestration_state(instance_id)
        return state.runtime_status if state else None

    def becomes(self, instance_id: str, status, seconds: float = 20):
        until(f"{instance_id} becomes {status}", lambda: self.status(instance_id) == status, seconds)

    def history(self, instance_id: str) -> list[str]:
        """The kinds of an instance's events, without the word Event."""
        events = self.client.get_orchestration_history(instance_id)
        return [type(event).__name__.removesuffix("Event") for event in events]

    @contextlib.contextmanager
    def stub(self):
        """The bare calls, for what the client of the SDK does not show."""
        channel = grpc.insecure_channel(self.address, options=LARGE.to_grpc_options())
        try:
            yield Bare(stubs.TaskHubSidecarServiceStub(channel), self.metadata)
        finally:
            channel.close()


class Bare:
    """A stub that sends the hub's name with each call."""

    def __init__(self, stub, metadata):
        self.stub, self.metadata = stub, metadata

    def __getattr__(self, name):
        call = getattr(self.stub, name)
        return lambda request, timeout=20: call(request, timeout=timeout, metadata=self.metadata)


class Host:
    """A host in a process of its own, which a scenario may kill."""

    def __init__(self, command: str):
        self.command, self.data = command, tempfile.TemporaryDirectory()
        self.listen, self.process = "127.0.0.1:0", None

    def up(self) -> str:
        words = [word.format(data=self.data.name, listen=self.listen) for word in shlex.split(self.command)]
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for line in self.process.stdout:
            with contextlib.suppress(ValueError, KeyError, TypeError):
                self.listen = json.loads(line)["url"].split("//")[1].rstrip("/")
                threading.Thread(target=self.process.stdout.read, daemon=True).start()
                return self.listen
        raise AssertionError(f"the host said no address: {self.command}")

    def kill(self):
        if self.process:
            self.process.send_signal(signal.SIGKILL)
            self.process.wait()

    def __enter__(self):
        self.up()
        return self

    def __exit__(self, *_):
        self.kill()
        self.data.cleanup()


SCENARIOS = []


def scenario(function=None, *, alone=False, needs=None):
    """Registers a scenario. `alone`: it looks at or changes the whole hub. `needs`: an option of the runner without which it is skipped."""

    def register(function):
        SCENARIOS.append((function, alone, needs))
        return function

    return register(function) if function else register


def own_trace(error: BaseException) -> str:
    """The frames of the scenarios, without those of the SDK, and what was raised."""
    folder = os.path.dirname(os.path.abspath(__file__))
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename.startswith(folder)]
    return "".join(traceback.format_list(frames) + traceback.format_exception_only(error))


def attempt(function, address, hub, serve) -> str | None:
    """Runs one scenario, and gives the trace of its failure. A thread cannot be ended: the process does that at its end."""
    result = []

    def body():
        try:
            function(Hub(address, hub, function.__name__.replace("_", "-"), serve))
            result.append(None)
        except BaseException as error:
            result.append(own_trace(error))

    thread = threading.Thread(target=body, daemon=True)
    thread.start()
    thread.join(SECONDS)
    if result:
        return result[0]
    frame = sys._current_frames().get(thread.ident)
    where = "".join(traceback.format_stack(frame)) if frame else ""
    return f"{where}it had not ended after {SECONDS} s\n"


def run(address: str, hub: str, options: dict, only: list[str]) -> int:
    """Runs the scenarios, those that can at the same time, and gives the exit code."""
    chosen = [entry for entry in SCENARIOS if not only or any(word in entry[0].__name__ for word in only)]
    failed, passed, skipped = [], 0, 0
    lock = threading.Lock()

    def one(entry):
        nonlocal passed, skipped
        function, _, needs = entry
        name = function.__name__.replace("_", " ")
        if needs and not options[needs]:
            with lock:
                skipped += 1
                print(f"  {name} ... SKIPPED: it needs --{needs}", flush=True)
            return
        began = time.monotonic()
        trace = attempt(function, address, hub, options["serve"])
        with lock:
            if trace is None:
                passed += 1
                slow = time.monotonic() - began
                print(f"  {name} ... ok" + (f" ({slow:.1f} s)" if slow > 5 else ""), flush=True)
            else:
                failed.append(name)
                print(f"  {name} ... FAILED\n{trace}", flush=True)

    with ThreadPoolExecutor(TOGETHER) as pool:
        wait([pool.submit(one, entry) for entry in chosen if not entry[1]])
    for entry in chosen:
        if entry[1]:
            one(entry)
    if failed:
        print(f"{len(failed)} of {len(chosen)} scenarios FAILED: {', '.join(failed)}", flush=True)
    else:
        print(f"{passed} scenarios passed" + (f", {skipped} skipped" if skipped else ""), flush=True)
    return 1 if failed or not chosen else 0


def leave(code: int):
    """Ends the process with threads that still wait."""
    sys.stdout.flush()
    os._exit(code)
