"""One server, in a process of its own: its work as JSON, and what to measure; its last line is the result as JSON."""

import json
import sys

from fedcomp.benchmarks.server.fold import FoldWork, measure

if __name__ == "__main__":
    work, what = sys.argv[1:]
    print(json.dumps(measure(FoldWork(**json.loads(work)), what)))
