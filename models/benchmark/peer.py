"""The peer's side of the benchmark: PP-OCRv4 as rapidocr-onnxruntime ships it, one thread.

Runs in the peer's own environment and imports nothing of ours. A path a line on standard input; on standard output
a line of JSON each: {"ms", "peak_mb", "plates": [{"text", "score", "box": [x0, y0, x1, y1]}]}, in reading order.
"""

import json
import os
import resource
import sys
import time

import cv2
import numpy as np
from rapidocr_onnxruntime import RapidOCR


def main() -> None:
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what the peer prints must not get between our lines
    cv2.setNumThreads(1)
    engine = RapidOCR(intra_op_num_threads=1, inter_op_num_threads=1)
    for line in sys.stdin:
        image = cv2.imread(line.rstrip("\n"))
        started = time.perf_counter()
        lines, _ = engine(image)
        ms = (time.perf_counter() - started) * 1e3
        plates = [
            {"text": text, "score": float(score), "box": [*np.min(quad, 0).tolist(), *np.max(quad, 0).tolist()]}
            for quad, text, score in lines or []
        ]
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        out.write(json.dumps({"ms": ms, "peak_mb": peak, "plates": plates}) + "\n")


if __name__ == "__main__":
    main()
