"""The scenarios of the Python SDK: `run.py ADDRESS [--hub NAME] [--serve COMMAND] [--components] [WORD...]`.

ADDRESS is host and port of a served hub; WORDs choose scenarios by their names. COMMAND starts a host of its own for the scenarios that kill
one: `{data}` in it stands for the data directory, `{listen}` for the address, and it prints a JSON line with `url`. --components says that
the samples hello-sequence and human-approval are deployed on the hub.
"""

import argparse
import importlib
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent / "python"))
import harness

parser = argparse.ArgumentParser()
parser.add_argument("address")
parser.add_argument("--hub", default="default")
parser.add_argument("--serve")
parser.add_argument("--components", action="store_true")
parser.add_argument("only", nargs="*")
given = parser.parse_intermixed_args()
for file in sorted(pathlib.Path(__file__).parent.glob("python/scenarios_*.py")):
    importlib.import_module(file.stem)
harness.leave(harness.run(given.address, given.hub, vars(given), given.only))
