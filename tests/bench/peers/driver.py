"""What the drivers in Python share: the questions that they answer."""

import json
import sys


def say(line):
    print(json.dumps(line), flush=True)


def questions(version, configuration):
    """The words of each line of standard input."""
    say({"version": version, "configuration": configuration})
    for line in sys.stdin:
        yield line.split()
