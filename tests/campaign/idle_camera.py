"""What an idle lane's camera costs: the feed's share of one core, with frames that wait in the ring encoded.

    python -m tests.campaign.idle_camera [--seconds 20] [--fps 15] [--width 1280] [--height 720]

The server runs in a process of its own; the time is that of this process, start-up aside.
"""

import argparse
import multiprocessing
import threading
import time
from multiprocessing.connection import Connection

import cv2
import numpy as np

from edge.capture import CameraFeed, FrameRing
from tests.camera_rigs import MULTIPART, HttpCamera, flood, network, part


def serve(frame: bytes, fps: float, told: Connection) -> None:
    server = HttpCamera(flood(part(frame), head=MULTIPART, every_s=1 / fps))
    told.send(server.url)
    told.recv()
    server.close()


def street(width: int, height: int) -> bytes:
    """A JPEG about as large as a camera's: smooth shades with some grain."""
    noise = np.random.default_rng(1).normal(128, 40, (height // 8, width // 8, 3)).clip(0, 255).astype(np.uint8)
    return cv2.imencode(".jpg", cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC))[1].tobytes()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=20)
    parser.add_argument("--fps", type=float, default=15)
    parser.add_argument("--width", type=int, default=1280)
    parser.add_argument("--height", type=int, default=720)
    asked = parser.parse_args()
    frame = street(asked.width, asked.height)
    here, there = multiprocessing.get_context("spawn").Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(frame, asked.fps, there))
    server.start()
    ring = FrameRing(24, 1 << 20)
    feed = CameraFeed(network(here.recv()), ring, keep_s=1.0, silent_after_s=3)
    stop = threading.Event()
    thread = threading.Thread(target=feed.run, args=(stop, lambda: None, lambda state: None))
    thread.start()
    time.sleep(2)
    frames, spent, began = feed.frames, time.process_time(), time.monotonic()
    time.sleep(asked.seconds)
    frames, spent, took = feed.frames - frames, time.process_time() - spent, time.monotonic() - began
    stop.set()
    thread.join()
    ring.close()
    here.send("end")
    server.join()
    print(
        f"{asked.width} x {asked.height}, {len(frame) >> 10} KiB a frame, {frames / took:.1f} frames/s: "
        f"{100 * spent / took:.2f} % of a core, {1e6 * spent / max(1, frames):.0f} us a frame"
    )


if __name__ == "__main__":
    main()
