"""Coverage-guided fuzzing (atheris) of every parser that meets outside bytes: nothing but our own errors may come out.

    make fuzz SECONDS=3600 TARGETS="message receipt"      all targets without TARGETS, 10 seconds without SECONDS
    .venv-fuzz/bin/python -m tests.campaign.fuzz message --seconds 3600

A target starts from the committed vectors and from what earlier runs found worth keeping, tests/vectors/fuzz; --keep
adds to that. What breaks one is left in build/fuzz/TARGET; run it again with `python -m tests.campaign.fuzz TARGET
--again FILE`. docs/benchmarks.md has the executions of the long runs.
"""

import argparse
import datetime
import json
import lzma
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from functools import cache
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from typing import Any

INSTRUMENTED = ["central", "drivers", "edge", "securesystemslib", "tomllib", "tuf"]
"""Packages that the fuzzer sees the ways through: nothing of them may be imported before it is told so, in `run`."""
LEAST_COVERAGE = 4
"""Fewer branches than this were seen: then the fuzzer is blind to the parser."""
ROOT = Path(__file__).parents[2]
OUT = ROOT / "build" / "fuzz"
KEPT = ROOT / "tests" / "vectors" / "fuzz"
"""TARGET.xz: one input a line, in hex, the shortest first: each went a new way through the parser when it was found."""
MOST_KEPT_BYTES = 1 << 20
VECTORS = json.loads((ROOT / "tests" / "vectors" / "seal" / "vectors.json").read_text())
Parser = Callable[[bytes], object]


def _function(module: str, name: str) -> Any:
    return getattr(import_module(module), name)


def _text(parse: Callable[[str], object]) -> Parser:
    return lambda data: parse(data.decode("latin-1"))


def _cose() -> Parser:
    from edge.cbor import Malformed
    from edge.seal import cose

    def parse(data: bytes) -> None:
        for kind in (cose.Sign1, cose.Sign, cose.Encrypt, cose.Encrypt0):
            with suppress(Malformed):
                kind.parse(data, lenient=True)  # type: ignore[attr-defined]

    return parse


def _cbor() -> Parser:
    from edge.cbor import Malformed, decode, encode

    def parse(data: bytes) -> None:
        try:
            value = decode(data)
        except Malformed:
            return
        if encode(value) != data:
            raise AssertionError("a second form was accepted")

    return parse


def _record() -> Parser:
    from edge import record

    def parse(data: bytes) -> None:
        kind, coded = "rcga"[data[0] % 4 if data else 0], data[1:]
        if record.encode(record.decode(kind, coded)) != coded:
            raise AssertionError("a second form was accepted")

    return parse


def _message() -> Parser:
    from edge.seal import envelope

    def parse(data: bytes) -> None:
        found = envelope.parse(data)
        if found.outer.encode() != data or found.inner.encode() != found.outer.payload:
            raise AssertionError("a second form was accepted")

    return parse


def _receipt() -> Parser:
    from edge.seal import receipt

    def parse(data: bytes) -> None:
        if receipt.parse(data).outer.encode() != data:
            raise AssertionError("a second form was accepted")

    return parse


def _public_key() -> Parser:
    from edge.seal.keys import Purpose, parse_public

    return _text(lambda text: parse_public(text, Purpose.RECIPIENT))


def _metadata() -> Parser:
    """One file of the owner's repository, by the first byte, in place of what the owner signed."""
    from edge.trust import Trust

    files = repository()
    names = [*sorted(files), "metadata/2.root.json"]

    class Carrier:
        replaced: tuple[str, bytes] = ("", b"")

        def fetch(self, name: str) -> Iterator[bytes] | None:
            content = self.replaced[1] if name == self.replaced[0] else files.get(name)
            return None if content is None else iter([content])

    carrier, folder = Carrier(), _scratch()

    def parse(data: bytes) -> None:
        carrier.replaced = names[data[0] % len(names) if data else 0], data[1:]
        shutil.rmtree(folder / "trust", ignore_errors=True)
        Trust(folder / "trust", files["metadata/1.root.json"]).refresh(carrier, datetime.datetime.now(datetime.UTC))

    return parse


def _jpeg() -> Parser:
    from drivers.camera.jpeg import jpeg_size

    return lambda data: jpeg_size(memoryview(data))


def _scratch() -> Path:
    return Path(tempfile.mkdtemp(dir="/dev/shm" if Path("/dev/shm").is_dir() else None))


def _file(parse: Callable[[Path], object]) -> Parser:
    """Through a file, for what reads files."""
    path = _scratch() / "input"

    def write_and_parse(data: bytes) -> None:
        path.write_bytes(data)
        parse(path)

    return write_and_parse


def _capture() -> Parser:
    of_capture = _function("central.heard", "of_capture")
    return _file(lambda path: list(of_capture(path)))


def _modbus() -> Parser:
    parse = _function("drivers.loop.modbus", "parse")
    return lambda data: parse(data, 1, 2)


def _dcon() -> Parser:
    parse = _function("drivers.loop.dcon", "parse")
    return lambda data: parse(data, 1)


TARGETS: dict[str, Callable[[], Parser]] = {
    "cbor": _cbor,
    "cose": _cose,
    "record": _record,
    "message": _message,
    "receipt": _receipt,
    "public-key": _public_key,
    "token-uri": lambda: _text(_function("edge.seal.token", "parse_uri")),
    "policy": lambda: _function("edge.policy", "parse_policy"),
    "enrolment": lambda: _function("edge.enrolment", "parse"),
    "config": lambda: _file(_function("edge.config", "load")),
    "topic": lambda: _text(_function("edge.mqtt", "split")),
    "capture": _capture,
    "modbus": _modbus,
    "dcon": _dcon,
    "jpeg": _jpeg,
    "manifest": lambda: _function("edge.manifest", "parse"),
    "metadata": _metadata,
}

FORMS = {
    "capture": "CAPTURE",
    "cbor": "CBOR",
    "config": "TOML",
    "cose": "CBOR",
    "enrolment": "ENROLMENT",
    "manifest": "JSON",
    "message": "CBOR",
    "metadata": "PREFIXED_JSON",
    "modbus": "MODBUS",
    "policy": "JSON",
    "public-key": "PEM",
    "receipt": "CBOR",
    "record": "PREFIXED",
}
"""How the documents of a target are made (a Form in mutate.py), where they have more structure than bytes."""


def _broken(data: bytes) -> None:
    if data[:1] == b"!":
        raise IndexError("broken on purpose")


ON_PURPOSE = "on-purpose"
"""A parser with a mistake in it, which a test plants to see that mistakes are found."""


def seeds(target: str) -> Iterator[bytes]:
    """What a target starts from."""
    messages = [bytes.fromhex(one["message"]) for group in ("suites", "chain", "refused") for one in VECTORS[group]]
    match target:
        case "cbor" | "cose" | "message":
            yield from messages
        case "record":
            for one in VECTORS["chain"]:
                number = "rcga".index(one["header"]["kind"])
                yield bytes([number]) + bytes.fromhex(one["plaintext"])
        case "receipt":
            yield from (bytes.fromhex(one["receipt"]) for one in VECTORS["receipts"])
        case "public-key":
            yield from (one["public"].encode() for one in VECTORS["keys"])
        case "token-uri":
            yield b"pkcs11:token=box;object=lane;id=%01?module-path=/usr/lib/x.so&pin-source=file:/etc/pin"
        case "config":
            yield (ROOT / "docs" / "lane.toml").read_bytes()
        case "topic":
            yield b"lanes/v1/lane-1/record"
        case "capture":
            yield b"1795500000.5 lanes/v1/lane-1/record " + messages[0].hex().encode() + b"\n"
        case "policy":
            yield _policy()
        case "enrolment":
            yield _enrolment()
        case "dcon":
            yield from (b"!00FF00\r", b"!0A3C00\r", b"?01\r")
        case "jpeg":
            yield bytes.fromhex("ffd8ffc0000b080030004001011100ffda0008010100003f00ffd9")
        case "manifest":
            yield (ROOT / "models" / "manifest.json").read_bytes()
        case "metadata":
            files = repository()
            yield from (bytes([number]) + files[name] for number, name in enumerate(sorted(files)))
        case _:
            yield from (path.read_bytes() for path in (ROOT / "tests" / "vectors" / target).glob("*.bin"))


def _policy() -> bytes:
    from edge.policy import Collector, Lane, LaneKey, Policy, Recipient, Revocation
    from tests.sealing import recipient_key, signing_key

    now = datetime.datetime(2026, 11, 24, tzinfo=datetime.UTC)
    return Policy(
        version=3,
        issued=now,
        recipients=(Recipient(key=recipient_key().public), Recipient(key=recipient_key(name="next").public, since=now)),
        collectors=(Collector(key=signing_key(name="collector").public),),
        lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),), epochs=("00112233aabbccdd",))},
        revoked=(Revocation(kid="0" * 32, at=now),),
    ).to_json()


@cache
def repository() -> Mapping[str, bytes]:
    """The files of an owner's repository with one policy."""
    from central.repository import Repository
    from edge.policy import Recipient
    from edge.seal.signer import FileSigner
    from tests.sealing import recipient_key, signing_key

    now = datetime.datetime.now(datetime.UTC)
    root, targets, online = (FileSigner(signing_key(name=name)) for name in ("root", "targets", "online"))
    made = Repository.create(_scratch() / "owner", [root], 1, targets.public, online.public, now)
    made.edit(recipients=tuple(Recipient(key=recipient_key(name=name).public) for name in ("one", "other")))
    made.publish(targets, online, now)
    return made.files()


def _enrolment() -> bytes:
    from cryptography.hazmat.primitives.asymmetric import ec

    from edge import enrolment
    from edge.seal.signer import FileSigner
    from tests.sealing import signing_key

    tls_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    return enrolment.make("lane-1", FileSigner(signing_key()), tls_key, old=FileSigner(signing_key(name="old")))


def kept(target: str) -> list[bytes]:
    """What runs before this one found worth keeping."""
    file = KEPT / f"{target}.xz"
    lines = lzma.decompress(file.read_bytes()).decode().splitlines() if file.exists() else []
    return [bytes.fromhex(line) for line in lines]


def keep(target: str) -> None:
    """Have what is worth keeping of the last run outlast it, as far as there is room."""
    found = sorted({path.read_bytes() for path in (OUT / target / "corpus").iterdir()}, key=lambda one: (len(one), one))
    room = (size <= MOST_KEPT_BYTES for size in accumulate(map(len, found)))
    lines = "".join(f"{one.hex()}\n" for one, fits in zip(found, room, strict=True) if fits)
    KEPT.mkdir(exist_ok=True)
    (KEPT / f"{target}.xz").write_bytes(lzma.compress(lines.encode()))


def run(target: str, arguments: list[str]) -> None:
    """Fuzz one target in this process; never returns."""
    import atheris

    with atheris.instrument_imports(include=INSTRUMENTED):
        from tests.campaign import mutate

        parse = _broken if target == ON_PURPOSE else TARGETS[target]()
        from edge.errors import SealaneError
    form = getattr(mutate, FORMS[target]) if target in FORMS else None

    def once(data: bytes) -> None:
        try:
            parse(data)
        except SealaneError:
            return

    def in_bytes(some: bytes) -> bytes:
        return bytes(atheris.Mutate(some, max(len(some), 8) * 2))

    def change(data: bytes, max_size: int, seed: int) -> bytes:
        changed = mutate.mutated(form, data, random.Random(seed), in_bytes)
        return changed if len(changed) <= max_size else atheris.Mutate(data, max_size)  # type: ignore[no-any-return]

    atheris.Setup([sys.argv[0], *arguments], once, custom_mutator=change if form else None)
    atheris.Fuzz()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all if none is named")
    parser.add_argument("--seconds", type=int, default=10, help="for each target")
    parser.add_argument("--jobs", type=int, default=1, help="targets at a time")
    parser.add_argument("--keep", action="store_true", help="add what is found worth keeping to tests/vectors/fuzz")
    parser.add_argument("--again", type=Path, help="run the one target on this file only")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    unknown = set(asked.targets) - TARGETS.keys() - {ON_PURPOSE}
    if unknown:
        parser.error(f"no such target: {', '.join(sorted(unknown))}")
    if asked.again or asked.here:
        corpus = OUT / asked.targets[0] / "corpus"
        limits = [f"-max_total_time={asked.seconds}", "-max_len=8192", "-timeout=5", "-rss_limit_mb=1024"]
        limits += ["-print_final_stats=1", f"-artifact_prefix={corpus.parent}/"]
        run(asked.targets[0], [str(asked.again)] if asked.again else [*limits, str(corpus)])
    with ThreadPoolExecutor(asked.jobs) as pool:
        runs = {pool.submit(_apart, target, asked.seconds): target for target in asked.targets or TARGETS}
        failed = [runs[done] for done in as_completed(runs) if not done.result()]
    for target in (asked.targets or TARGETS) if asked.keep else ():
        keep(target)
    sys.exit(f"broken: {', '.join(sorted(failed))}" if failed else 0)


def _apart(target: str, seconds: int) -> bool:
    """Fuzz one target in a process of its own; prints how it went, and whether nothing broke it."""
    corpus = OUT / target / "corpus"
    corpus.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate((*seeds(target), *kept(target))):
        (corpus / f"seed-{number}").write_bytes(seed)
    log = corpus.parent / "log.txt"
    with log.open("wb") as output:
        command = [sys.executable, "-m", "tests.campaign.fuzz", target, "--here", f"--seconds={seconds}"]
        running = subprocess.Popen(command, cwd=ROOT, stdout=output, stderr=subprocess.STDOUT)
        _, status, used = os.wait4(running.pid, 0)
    running.returncode = os.waitstatus_to_exitcode(status)
    said = log.read_text(errors="replace").splitlines()
    executions = sum(int(line.split()[-1]) for line in said if "stat::number_of_executed_units" in line)
    coverage = int((re.findall(r" cov: (\d+) ", "\n".join(said)) or ["0"])[-1])
    fine = running.returncode == 0 and executions > 0 and coverage >= LEAST_COVERAGE
    minutes = (used.ru_utime + used.ru_stime) / 60
    how = "nothing broke it" if fine else f"BROKEN, see {log}"
    ran = f"{executions:,} executions in {minutes:.1f} min of processor time, {coverage} branches"
    print(f"{target}: {ran}, {how}", flush=True)
    if not fine:
        print("\n".join(said[-60:]), file=sys.stderr)
    return fine


if __name__ == "__main__":
    main()
