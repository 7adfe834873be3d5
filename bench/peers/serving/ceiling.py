"""Measure what is left without Kafka: decode, array, one run of the graph, encode; µs of CPU per decision by batch.

python -m bench.peers.serving.ceiling MODEL LINES
"""

import json
import sys
from functools import partial
from pathlib import Path

from bench.peers.serving.answering import Answering
from bench.timing import cpu_us

BATCHES = (1, 500)


def main() -> None:
    answering, lines = Answering(Path(sys.argv[1])), Path(sys.argv[2]).read_bytes().splitlines()
    found = {str(size): cpu_us(partial(answering.answer, lines[:size]), count=size) for size in BATCHES}
    answer_bytes = sum(len(value) for _, value in answering.answer(lines)) / len(lines)
    print(json.dumps({"us": found, "request_bytes": sum(map(len, lines)) / len(lines), "answer_bytes": answer_bytes}))


if __name__ == "__main__":
    main()
