"""What resizing changes in a model file, by TensorFlow Lite's own schema."""

from importlib.resources import files
from typing import Any

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema

from edge.reading.runtime import Network

CONTENT = (files("models") / "detector.tflite").read_bytes()


def packed(model: Any) -> bytes:
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


@pytest.mark.parametrize(("height", "width"), [(320, 512), (192, 288), (768, 1152)])
def test_resizing_changes_shapes_and_what_doublings_are_told_to_give_and_nothing_else(height: int, width: int) -> None:
    before: Any = schema.ModelT.InitFromPackedBuf(CONTENT, 0)
    after: Any = schema.ModelT.InitFromPackedBuf(Network(CONTENT, threads=1).resized(height, width)._model, 0)
    (graph,), (resized,) = before.subgraphs, after.subgraphs
    for old, new in zip(graph.tensors, resized.tensors, strict=True):
        if list(old.shape) != list(new.shape):
            one, rows, columns, channels = old.shape
            assert list(new.shape) == [one, rows * height // 384, columns * width // 576, channels]
            new.shape = old.shape
    given = []
    for operator in graph.operators:
        if before.operatorCodes[operator.opcodeIndex].builtinCode == schema.BuiltinOperator.RESIZE_BILINEAR:
            sides = graph.tensors[operator.inputs[1]].buffer
            given.append(np.frombuffer(bytes(after.buffers[sides].data), "<i4").tolist())
            after.buffers[sides].data = before.buffers[sides].data
    assert given == [[height // stride, width // stride] for stride in (32, 16, 8)]
    assert packed(after) == packed(before)
