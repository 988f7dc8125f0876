"""One port over two runtimes: whichever is installed takes the shipped models and keeps its word."""

import json
import os
import shutil
import subprocess
import sys
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edge.errors import FrameDamaged, ManifestInvalid, ManifestMismatch, ModelRefused, RuntimeMissing
from edge.reading import runtime
from edge.reading.bundle import load_bundle
from edge.reading.detector import PAD
from edge.reading.reader import PlateReader
from edge.reading.runtime import RUNTIMES, Network, TensorSpec, decode, installed_runtime
from edge.record import NoRead

SHIPPED = Path(str(files("models")))
INSTALLED = [name for name in RUNTIMES if find_spec(name)]


@pytest.fixture(params=INSTALLED)
def only(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Each installed runtime in turn, as if it were the only one."""
    name = str(request.param)
    monkeypatch.setattr(runtime, "find_spec", lambda asked: find_spec(asked) if asked == name else None)
    return name


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of the shipped bundle, to be spoilt."""
    for name in ("manifest.json", "detector.tflite", "ocr.tflite"):
        shutil.copy(SHIPPED / name, tmp_path)
    return tmp_path


def manifest_of(folder: Path) -> Any:
    return json.loads((folder / "manifest.json").read_text())


@pytest.mark.parametrize("section", ["detector", "ocr"])
def test_a_shipped_model_runs_as_its_manifest_says(only: str, section: str) -> None:
    assert installed_runtime() == only
    entry = manifest_of(SHIPPED)[section]
    network = Network((SHIPPED / entry["file"]).read_bytes(), threads=1)
    (spec,) = network.inputs
    codes = np.random.default_rng(1).integers(-128, 128, spec.shape, np.int8)
    first, second = network.run(codes), network.run(codes)
    for tensor, again, said in zip(first, second, entry["outputs"], strict=True):
        assert tensor.dtype == np.int8
        assert list(tensor.shape) == said["shape"]
        assert np.array_equal(tensor, again)
    assert any(not np.array_equal(a, b) for a, b in zip(first, network.run(~codes), strict=True))


def test_what_a_pass_returned_stays_when_the_next_runs(only: str) -> None:
    network = Network((SHIPPED / "detector.tflite").read_bytes(), threads=1)
    shape = network.inputs[0].shape
    (kept, *_) = network.run(np.full(shape, 100, np.int8))
    copy = kept.copy()
    network.run(np.random.default_rng(1).integers(-128, 128, shape, np.int8))
    assert np.array_equal(kept, copy)


def test_a_reader_keeps_nothing_of_a_picture_that_it_read(only: str) -> None:
    reader = PlateReader()
    canvases = reader._detector._canvases
    assert sorted(reader._detector.sizes) == [(320, 576), (384, 384), (384, 512), (384, 576)]
    for sides in reader._detector.sizes:
        picture = np.random.default_rng(1).integers(0, 256, (*sides, 3), np.uint8)
        for read in (reader.read_frame, reader.read_crop):
            read(picture)
            assert all((canvas.pixels == PAD).all() for canvas in canvases)
            for network in (*(canvas.network for canvas in canvases), reader._ocr._network):
                assert not network._interpreter.get_tensor(network._input_index[0]).any()


def test_a_resized_network_is_the_same_but_for_its_sides(only: str) -> None:
    whole = Network((SHIPPED / "detector.tflite").read_bytes(), threads=1)
    small = whole.resized(320, 512)
    assert [spec.shape[:3] for spec in small.inputs] == [(1, 320, 512)]
    assert [spec.shape[:3] for spec in small.outputs] == [(1, 40, 64)] * 3
    assert small.resized(384, 576)._model == whole._model
    # Far from the edges of both, a spot on a grey ground gives the same maps, to a few of their codes.
    ground = np.zeros((1, 384, 576, 1), np.int8)
    ground[0, 100:130, 200:300, 0] = np.random.default_rng(1).integers(-128, 128, (30, 100), np.int8)
    for a, b in zip(small.run(ground[:, :320, :512]), whole.run(ground), strict=True):
        around = np.s_[0, 11:18, 23:39]
        assert np.ptp(b[around].astype(int)) > 50
        assert np.abs(a[around].astype(int) - b[around]).max() <= 5


@pytest.mark.parametrize("sides", [(0, 640, 3), (0, 640), (640, 0)])
def test_a_picture_that_opencv_refuses_is_damaged_and_the_next_is_read(only: str, sides: tuple[int, ...]) -> None:
    reader = PlateReader()
    with pytest.raises(FrameDamaged, match=r"^CAM-03 "):
        reader.read_frame(np.zeros(sides, np.uint8))
    assert reader.read_frame(np.zeros((480, 640, 3), np.uint8)).reason is NoRead.TOO_DARK


@pytest.mark.parametrize("content", [b"", b"TFL3", b"not a model at all" * 100])
def test_bytes_that_are_no_model_are_refused(only: str, content: bytes) -> None:
    with pytest.raises(ModelRefused):
        Network(content, threads=1)


def test_a_new_process_hears_nothing_from_the_runtime() -> None:
    """A process of its own: the runtime greets once in each."""
    program = "import sys; from edge.reading.bundle import load_bundle; load_bundle(None, threads=1); print('loaded')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.stderr) == ("loaded\n", "")


def runtime_that_says(*said: bytes) -> SimpleNamespace:
    """In place of importlib: a runtime that writes to standard error, then refuses any model."""

    def interpreter(**_: object) -> None:
        for words in said:
            os.write(2, words)
        raise ValueError("spoilt")

    return SimpleNamespace(import_module=lambda name: SimpleNamespace(Interpreter=interpreter))


def test_what_else_the_runtime_says_comes_through(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "importlib", runtime_that_says(b"WARNING: a\n", runtime.GREETING, b"ERROR: b\n"))
    for _ in range(2):
        with pytest.raises(ModelRefused, match="spoilt"):
            Network(b"", threads=1)
        assert capfd.readouterr().err == "WARNING: a\nERROR: b\n"


def test_a_runtime_that_says_more_than_a_pipe_holds_is_not_held_up(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runtime, "importlib", runtime_that_says(b"x" * 40_000, b"y" * 40_000))
    with pytest.raises(ModelRefused, match="spoilt"):
        Network(b"", threads=1)
    said = capfd.readouterr().err
    assert said == "x" * 40_000 + "y" * (len(said) - 40_000)


def test_without_a_runtime_the_error_names_both(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "find_spec", lambda name: None)
    with pytest.raises(RuntimeMissing, match="ai_edge_litert, tflite_runtime"):
        Network(b"", threads=1)


def test_codes_are_decoded_by_scale_and_zero_point() -> None:
    spec = TensorSpec((3,), "int8", 0.5, -3)
    assert decode(np.array([-128, -3, 127], np.int8), spec).tolist() == [-62.5, 0.0, 65.0]


def test_a_bundle_in_a_folder_is_the_shipped_one(bundle: Path) -> None:
    assert load_bundle(bundle, threads=1).model_id == load_bundle(None, threads=1).model_id


def test_any_change_of_the_manifest_is_another_model(bundle: Path) -> None:
    before = load_bundle(bundle, threads=1).model_id
    manifest = manifest_of(bundle)
    manifest["detector"]["threshold"] = 0.9
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    assert load_bundle(bundle, threads=1).model_id != before


def test_a_model_that_is_not_the_manifests_is_refused(bundle: Path) -> None:
    content = bytearray((bundle / "ocr.tflite").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle / "ocr.tflite").write_bytes(content)
    with pytest.raises(ManifestMismatch, match=r"ocr\.tflite is not the file"):
        load_bundle(bundle, threads=1)


@pytest.mark.parametrize(
    ("side", "key", "value"),
    [
        ("inputs", "shape", [1, 64, 64, 1]),
        ("inputs", "zero_point", 0),
        ("outputs", "scale", 0.5),
        ("outputs", "dtype", "uint8"),
    ],
)
def test_tensors_other_than_the_manifest_says_are_refused(bundle: Path, side: str, key: str, value: object) -> None:
    manifest = manifest_of(bundle)
    manifest["detector"][side][0][key] = value
    (bundle / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ManifestMismatch, match=f"other {side}"):
        load_bundle(bundle, threads=1)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda manifest: manifest | {"format": 2},
        lambda manifest: {key: value for key, value in manifest.items() if key != "ocr"},
        lambda manifest: manifest | {"detector": []},
        lambda manifest: manifest | {"detector": manifest["detector"] | {"file": "../detector.tflite"}},
        lambda manifest: manifest | {"detector": manifest["detector"] | {"file": "absent.tflite"}},
        lambda manifest: manifest | {"detector": manifest["detector"] | {"inputs": [{"shape": "?"}]}},
        lambda manifest: manifest | {"detector": manifest["detector"] | {"threshold": float("nan")}},
        lambda manifest: manifest | {"detector": manifest["detector"] | {"threshold": 0}},
        lambda manifest: manifest | {"detector": manifest["detector"] | {"threshold": 1}},
        lambda manifest: manifest | {"detector": manifest["detector"] | {"evidence": -0.7}},
        lambda manifest: manifest | {"ocr": manifest["ocr"] | {"temperature": 0}},
        lambda manifest: manifest | {"ocr": manifest["ocr"] | {"blank": 0}},
        lambda manifest: manifest | {"ocr": {key: value for key, value in manifest["ocr"].items() if key != "margin"}},
        lambda manifest: [],
    ],
)
def test_a_manifest_that_says_too_little_is_refused(bundle: Path, spoil: Any) -> None:
    (bundle / "manifest.json").write_text(json.dumps(spoil(manifest_of(bundle))))
    with pytest.raises(ManifestInvalid):
        load_bundle(bundle, threads=1)


@pytest.mark.parametrize("wrong", [ZeroDivisionError, OverflowError, IndexError, ValueError])
def test_networks_that_a_reader_can_not_be_made_of_are_refused(
    monkeypatch: pytest.MonkeyPatch, wrong: type[Exception]
) -> None:
    def made(_: object) -> None:
        raise wrong("no")

    monkeypatch.setattr("edge.reading.reader.Ocr", made)
    with pytest.raises(ManifestInvalid):
        PlateReader()


def test_networks_that_fail_on_a_picture_are_refused_before_a_vehicle_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise RuntimeError("Node number 3 failed to invoke.")

    monkeypatch.setattr("edge.reading.ocr.Ocr.read", fails)
    with pytest.raises(ManifestInvalid, match="failed to invoke"):
        PlateReader()


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'"text"', b" " * 300_000])
def test_a_manifest_that_is_no_json_object_of_bounded_size_is_refused(bundle: Path, content: bytes) -> None:
    (bundle / "manifest.json").write_bytes(content)
    with pytest.raises(ManifestInvalid):
        load_bundle(bundle, threads=1)


def test_a_folder_without_a_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ManifestInvalid):
        load_bundle(tmp_path, threads=1)
