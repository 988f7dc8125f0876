"""Our side of the benchmark: the shipped reader on one thread. Same lines as peer.py, and `invoke_ms`: the part of
`ms` that the two networks take."""

import json
import resource
import sys
import time
from typing import Any

import cv2
import numpy as np

from edge.reading.reader import PlateReader
from edge.reading.runtime import Network


def main() -> None:
    cv2.setNumThreads(1)
    inside = _timed_networks()
    reader = PlateReader(threads=1)
    for line in sys.stdin:
        image = np.asarray(cv2.imread(line.rstrip("\n")), np.uint8)
        inside.clear()
        reading = reader.read_frame(image)
        plates = [
            {
                "text": str(plate.text) if plate.no_read is None else "",
                "score": plate.score,
                "box": [*plate.quad.min(0).tolist(), *plate.quad.max(0).tolist()],
            }
            for plate in reading.plates
        ]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        result = {"ms": reading.ms, "peak_mb": peak, "plates": plates, "invoke_ms": 1e3 * sum(inside)}
        sys.stdout.write(json.dumps(result) + "\n")
        sys.stdout.flush()


def _timed_networks() -> list[float]:
    """Has every pass of a network note its seconds."""
    seconds: list[float] = []
    run = Network.run

    def timed(network: Network, *values: Any) -> Any:
        started = time.perf_counter()
        result = run(network, *values)
        seconds.append(time.perf_counter() - started)
        return result

    Network.run = timed  # type: ignore[method-assign, assignment]
    return seconds


if __name__ == "__main__":
    main()
