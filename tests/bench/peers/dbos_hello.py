"""hello-sequence on DBOS: workflows called from threads. In the database that `PEER_DATABASE` names, else in a file of SQLite."""

import os
import sqlite3
import sys
import threading
import time
from importlib.metadata import version
from pathlib import Path

from dbos import DBOS

from driver import questions, say


@DBOS.step()
def say_hello(city: str) -> str:
    return f"Hello {city}!"


@DBOS.workflow()
def hello_sequence() -> list[str]:
    return [say_hello(city) for city in ["Tokyo", "Seattle", "London"]]


def one():
    answer = hello_sequence()
    assert answer == ["Hello Tokyo!", "Hello Seattle!", "Hello London!"], answer


def throughput(in_flight, seconds):
    begun = time.monotonic()
    done = [0] * in_flight

    def lane(i):
        while time.monotonic() - begun < seconds:
            one()
            done[i] += 1

    threads = [threading.Thread(target=lane, args=[i]) for i in range(in_flight)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"done": sum(done), "seconds": time.monotonic() - begun}


def latency(count):
    ms = []
    for _ in range(count):
        begun = time.monotonic()
        one()
        ms.append((time.monotonic() - begun) * 1e3)
    return {"ms": ms}


def store():
    """Where it keeps what it does, and how."""
    if database := os.environ.get("PEER_DATABASE"):
        return database, "PostgreSQL"
    path = Path(sys.argv[1]) / "dbos.db"
    with sqlite3.connect(path) as hub:
        # It stays with the file.
        assert hub.execute("PRAGMA journal_mode=WAL").fetchone() == ("wal",)
    return f"sqlite:///{path}", "SQLite with WAL and synchronous=FULL"


def main():
    url, kind = store()
    DBOS(
        config={
            "name": "hello",
            "system_database_url": url,
            "run_admin_server": False,
            "console_log_level": "ERROR",
            "log_level": "ERROR",
        }
    )
    DBOS.launch()
    configuration = f"{kind}, workflows called from threads of one process"
    for words in questions(version("dbos"), configuration):
        match words:
            case ["throughput", in_flight, seconds]:
                say(throughput(int(in_flight), float(seconds)))
            case ["latency", count]:
                say(latency(int(count)))
    DBOS.destroy()


if __name__ == "__main__":
    main()
