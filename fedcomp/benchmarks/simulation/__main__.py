"""One contestant, in a process of its own: name, work as JSON, the descriptor of the socket to the benchmark."""

import json
import sys

from fedcomp.benchmarks.simulation.contestants import CONTESTANTS
from fedcomp.benchmarks.simulation.turns import Turns
from fedcomp.benchmarks.simulation.work import Work

if __name__ == "__main__":
    name, work, file = sys.argv[1:]
    CONTESTANTS[name](Work(**json.loads(work)), Turns(int(file)))
