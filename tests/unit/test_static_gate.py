"""The static gate: edge/ and drivers/ hold no call that could put pixels into a file, a log, a pipe or a new socket.

It reads syntax, so it stops a slip and a quick debugging aid, not somebody who hides: against that stand confinement
and tests/campaign/prove_no_images.py. What is allowed is listed below with its reason, and an allowance that nothing
uses any more fails too.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

HOUSE = Path(__file__).parents[2]

PIXEL_CALLS = {
    # OpenCV
    "imwrite", "imwritemulti", "imwriteanimation", "imencode", "imencodemulti", "imencodeanimation", "VideoWriter",
    "imshow", "FileStorage",
    # numpy
    "tofile", "save", "savez", "savez_compressed", "savetxt", "memmap", "open_memmap",
    # PyAV, Pillow, picamera2, GStreamer
    "to_image", "add_stream", "add_stream_from_template", "capture_file", "capture_image", "start_recording",
    "start_and_record_video", "start_and_capture_file", "filesink", "multifilesink", "jpegenc", "pngenc",
    # the standard library
    "write_bytes", "write_text", "mkstemp", "NamedTemporaryFile", "TemporaryFile", "memfd_create", "a2b_base64",
    "b2a_base64", "b64encode", "urlsafe_b64encode", "standard_b64encode", "b85encode", "a85encode", "b32encode",
    "sendfile", "copy_file_range", "mknod", "mkfifo", "system", "popen", "posix_spawn", "execv", "execve",
}  # fmt: skip
"""Names that are refused as a call, an attribute or a string (getattr, an element of a pipeline)."""

IMPORTS = {
    "PIL", "base64", "binascii", "ctypes", "dbm", "ftplib", "http", "imageio", "marshal", "mmap", "multiprocessing",
    "pickle", "requests", "shelve", "shutil", "smtplib", "socket", "socketserver", "sqlite3", "subprocess", "tarfile",
    "tempfile", "tifffile", "urllib.request", "xmlrpc", "zipfile",
}  # fmt: skip
"""Ways out of the process: each module that needs one is named in ALLOWED."""

ALLOWED = {
    ("drivers/clock.py", "import ctypes"): "adjtimex(2)",
    ("drivers/clock.py", "import subprocess"): "asks chronyc for its source; refused where the process is confined",
    (
        "edge/aim/page.py",
        "import http",
    ): "the page of `sealane aim`, served by the command on 127.0.0.1; cells, not images",
    ("edge/capture.py", "import mmap"): "the ring's own anonymous memory, kept out of cores and forks",
    ("edge/commands/enrol.py", "call save"): "the lane's own keys, made once",
    (
        "edge/commands/enrol.py",
        "call write_bytes",
    ): "what goes to the owner and comes back; run by hand, before there is a lane",
    ("edge/commands/enrol.py", "import shutil"): "removes what was verified under another authority; run by hand",
    ("edge/confine.py", "import ctypes"): "Landlock, prctl(2), mlockall(2)",
    ("edge/control.py", "import socket"): "the local control socket; answers are numbers and words",
    ("edge/keeper.py", "import shutil"): "removes model bundles that are no longer in force from the state directory",
    ("edge/keeper.py", "call save"): "a further signing key, when the owner's policy asks for one",
    ("edge/mqtt.py", "import socket"): "TCP_NODELAY on the broker's connection",
    ("edge/notify.py", "import socket"): "sd_notify(3); the messages are constants and one status line",
    ("edge/carrier.py", "import http"): "fetches the owner's signed metadata",
    ("edge/trust.py", "open for writing"): "the verified metadata, in the state directory",
    ("edge/seal/keys.py", "call b64encode"): "key files are PEM; a DER of some hundred bytes",
    ("edge/seal/keys.py", "import base64"): "key files are PEM",
    ("edge/seal/keys.py", "open for writing"): "`sealane keys` writes key files; it never sees a frame",
    ("edge/outbox.py", "open for writing"): "the ballast: zeros, given back to a full disk",
    ("edge/outbox.py", "import sqlite3"): "the outbox; takes sealed bytes only",
}


def findings(source: str) -> Iterator[str]:
    """What the gate refuses in one module's source, as `import x`, `call x` or `open for writing`."""
    for node in ast.walk(ast.parse(source)):
        match node:
            case ast.Import(names=names):
                yield from (f"import {name}" for alias in names if (name := _refused_import(alias.name)))
            case ast.ImportFrom(module=str(module), names=names):
                full = [module, *(f"{module}.{alias.name}" for alias in names)]
                yield from (f"import {name}" for name in {_refused_import(f) for f in full} - {None})
                yield from (f"call {alias.name}" for alias in names if alias.name in PIXEL_CALLS)
            case ast.Attribute(attr=name) | ast.Name(id=name) if name in PIXEL_CALLS:
                yield f"call {name}"
            case ast.Constant(value=str(text)) if text in PIXEL_CALLS or (
                "!" in text and PIXEL_CALLS & {*text.split()}
            ):
                yield f"call {text}"
            case ast.Call(func=ast.Attribute(value=value, attr="dump" | "dumps")) if not _is_text_coder(value):
                yield "call dump"
            case ast.Call(func=ast.Name(id="open") | ast.Attribute(attr="open")) if _may_write(node):
                yield "open for writing"


def _refused_import(name: str) -> str | None:
    """The entry of IMPORTS that `name` falls under."""
    parts = name.split(".")
    return next((".".join(parts[:n]) for n in range(1, len(parts) + 1) if ".".join(parts[:n]) in IMPORTS), None)


def _is_text_coder(value: ast.expr) -> bool:
    return isinstance(value, ast.Name) and value.id in ("json", "cbor2")


def _may_write(call: ast.Call) -> bool:
    """Whether open(...), path.open(...), os.open(...) or av.open(...) could write: a mode or flag that says so."""
    words = {
        word
        for part in [*call.args, *(k.value for k in call.keywords)]
        for node in ast.walk(part)
        for word in (
            [node.value] if isinstance(node, ast.Constant) else [node.attr] if isinstance(node, ast.Attribute) else []
        )
        if isinstance(word, str)
    }
    modes = {word for word in words if word and set(word) <= set("rwxabt+U")}
    return any(set(mode) & set("wxa+") for mode in modes) or bool(
        words & {"O_WRONLY", "O_RDWR", "O_CREAT", "O_TRUNC", "O_APPEND", "O_TMPFILE"}
    )


def modules() -> list[str]:
    return sorted(str(p.relative_to(HOUSE)) for folder in ("edge", "drivers") for p in (HOUSE / folder).rglob("*.py"))


@pytest.mark.parametrize("module", modules())
def test_a_module_of_the_lane_box_holds_no_way_for_pixels_to_get_out(module: str) -> None:
    found = {finding for finding in findings((HOUSE / module).read_text()) if (module, finding) not in ALLOWED}
    assert not found


def test_every_allowance_is_still_used() -> None:
    unused = {
        (module, finding) for module, finding in ALLOWED if finding not in set(findings((HOUSE / module).read_text()))
    }
    assert not unused


@pytest.mark.parametrize(
    "leak",
    [
        "import cv2\ncv2.imwrite('/tmp/debug.png', frame)",
        "from cv2 import imwrite as keep\nkeep('x.png', frame)",
        "getattr(cv2, 'imwrite')('x.png', frame)",
        "ok, png = cv2.imencode('.png', frame)",
        "frame.tofile('/tmp/frame')",
        "np.save(path, frame)",
        "np.memmap(path, mode='w+')",
        "frame.dump('/tmp/frame')",
        "payload = frame.dumps()",
        "import pickle",
        "import shelve as s",
        "from base64 import b64encode",
        "import binascii\nbinascii.b2a_base64(frame)",
        "open('/tmp/frame', 'wb').write(frame)",
        "open('/tmp/frame', mode='ab')",
        "Path('/tmp/frame').open('r+b')",
        "Path('/tmp/frame').write_bytes(frame)",
        "os.open('/tmp/frame', os.O_CREAT | os.O_WRONLY)",
        "av.open('/tmp/video.mp4', 'w')",
        "import socket",
        "import urllib.request",
        "from urllib import request",
        "from http.client import HTTPConnection",
        "import subprocess",
        "import os\nos.system('cp /dev/shm/x /tmp')",
        "from PIL import Image",
        "Gst.parse_launch('appsrc ! jpegenc ! multifilesink')",
        "picamera2.capture_file('x.jpg')",
    ],
)
def test_the_gate_catches_a_leak(leak: str) -> None:
    assert list(findings(leak))


@pytest.mark.parametrize(
    "innocent",
    [
        "from urllib.parse import urlsplit",
        "json.dumps({'a': 1})",
        "with path.open('rb') as file: file.read(10)",
        "with open(path) as file: file.read(10)",
        "av.open(url, mode='r', timeout=(5, 5))",
        "os.open(path, os.O_PATH | os.O_DIRECTORY)",
        "frame = cv2.imdecode(buffer, cv2.IMREAD_COLOR)",
        'def f():\n    """Never save a frame:\n\n    imwrite is refused."""',
    ],
)
def test_the_gate_lets_reading_and_decoding_pass(innocent: str) -> None:
    assert not list(findings(innocent))
