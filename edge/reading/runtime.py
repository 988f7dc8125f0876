"""The one door to the int8 runtime: ai_edge_litert, or tflite_runtime where only that can be had.

Exactly one of the two is used, by what is installed and in that order. The two are not bit-identical.
"""

import importlib
import os
import re
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge.errors import ModelRefused, RuntimeMissing, clean

RUNTIMES = ("ai_edge_litert", "tflite_runtime")
GREETING = b"INFO: Created TensorFlow Lite XNNPACK delegate for CPU.\n"


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """Shape and affine coding of one int8 tensor: value = (code - zero_point) * scale."""

    shape: tuple[int, ...]
    dtype: str
    scale: float
    zero_point: int


def installed_runtime() -> str:
    """The name of the runtime that Network will use. RuntimeMissing if there is none."""
    for name in RUNTIMES:
        if find_spec(name) is not None:
            return name
    raise RuntimeMissing(f"none of {', '.join(RUNTIMES)} is installed")


class Network:
    """One int8 model with its tensors allocated, on `threads` threads of the runtime's own. Not thread-safe."""

    def __init__(self, model: bytes, *, threads: int) -> None:
        """ModelRefused if the runtime doesn't take the model."""
        interpreter = importlib.import_module(f"{installed_runtime()}.interpreter").Interpreter
        try:
            with _without_greeting():
                self._interpreter = interpreter(model_content=model, num_threads=threads)
                self._interpreter.allocate_tensors()
        except (ValueError, RuntimeError) as error:
            raise ModelRefused(f"the runtime refuses a model: {clean(error)}") from error
        self._model = model  # the runtime reads weights from these bytes for as long as it lives
        self._threads = threads
        inputs = self._interpreter.get_input_details()
        outputs = sorted(self._interpreter.get_output_details(), key=lambda detail: str(detail["name"]))
        self._input_index = [detail["index"] for detail in inputs]
        self._output_index = [detail["index"] for detail in outputs]
        self.inputs = tuple(_spec(detail) for detail in inputs)
        self.outputs = tuple(_spec(detail) for detail in outputs)

    def run(self, *values: NDArray[np.int8]) -> tuple[NDArray[np.int8], ...]:
        """One pass: arrays as in `inputs`, copies of arrays as in `outputs` (ordered by tensor name). The runtime keeps
        nothing of what it was given."""
        try:
            for index, value in zip(self._input_index, values, strict=True):
                self._interpreter.set_tensor(index, value)
            self._interpreter.invoke()
            return tuple(self._interpreter.get_tensor(index) for index in self._output_index)
        finally:
            for index, spec in zip(self._input_index, self.inputs, strict=True):
                self._interpreter.set_tensor(index, np.zeros(spec.shape, spec.dtype))

    def resized(self, height: int, width: int) -> "Network":
        """The same network of convolutions for a picture of other sides, multiples of the largest power of two that
        divides its own. ModelRefused as from the beginning.

        Sides are pairs of int32 wherever the file has them: in shapes at every stride, and in what a doubling is told
        to give, which the runtime's own `resize_tensor_input` leaves as it was. No weights are touched: chance has to
        hit eight bytes, mostly zeros (a test compares the shipped file, part by part).
        """
        rows, columns = self.inputs[0].shape[1:3]
        sides, stride = dict[bytes, bytes](), 1
        while rows % stride == columns % stride == 0:
            old, new = (rows // stride, columns // stride), (height // stride, width // stride)
            sides[struct.pack("<2i", *old)] = struct.pack("<2i", *new)
            stride *= 2
        model = re.sub(b"|".join(map(re.escape, sides)), lambda found: sides[found[0]], self._model)
        return Network(model, threads=self._threads)


def decode(codes: NDArray[np.int8], spec: TensorSpec) -> NDArray[np.float32]:
    """The values behind int8 codes."""
    return (codes.astype(np.float32) - np.float32(spec.zero_point)) * np.float32(spec.scale)


_one_at_a_time = threading.Lock()


@contextmanager
def _without_greeting() -> Iterator[None]:
    """Keep GREETING from standard error: the runtime has no switch for it. All else written there comes a bit later.

    What is more than a pipe holds (64 KiB) is lost: the runtime must not wait for a reader.
    """
    with _one_at_a_time:
        kept = os.dup(2)
        heard, said = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.dup2(said, 2)
        os.close(said)
        try:
            yield
        finally:
            os.dup2(kept, 2)
            os.close(kept)
            with os.fdopen(heard, "rb", buffering=0) as pipe:
                os.write(2, (pipe.read() or b"").replace(GREETING, b""))


def _spec(detail: dict[str, Any]) -> TensorSpec:
    scale, zero_point = detail["quantization"]
    shape = tuple(int(side) for side in detail["shape"])
    return TensorSpec(shape, np.dtype(detail["dtype"]).name, float(scale), int(zero_point))
