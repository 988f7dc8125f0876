"""A daemon that can't have all it wants: it says so in its state and its chain, and goes on reading and delivering."""

import datetime
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hw_sim.detector import ModbusEnd, Outputs

from central.repository import Repository
from edge.control import ask, socket_path
from edge.errors import ControlRefused, ManifestInvalid, OutboxFull, SealaneError
from edge.keeper import make_tls_key
from edge.outbox import Limits, Outbox
from edge.policy import Lane, LaneKey, ModelBundle, Recipient
from edge.record import AuditRecord, Kind
from edge.seal import envelope, keys
from edge.seal.opener import FileOpener
from edge.seal.receipt import Receipt
from edge.seal.signer import FileSigner
from tests.integration.lane_site import until
from tests.sealing import AUDIT, recipient_key, sealer, signing_key

NOW = datetime.datetime.now(datetime.UTC)
LIMITS = Limits(bytes=1 << 20)
ROOT, TARGETS, ONLINE = (FileSigner(signing_key(name=name)) for name in ("root", "targets", "online"))


class Box:
    """One lane's daemon, without a broker."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.state = root / "state"
        self.state.mkdir()
        self.owner = Repository.create(root / "owner", [ROOT], 1, TARGETS.public, ONLINE.public, NOW)
        readers = tuple(Recipient(key=recipient_key(name=name).public) for name in ("owner", "escrow"))
        self.owner.edit(recipients=readers, lanes={"lane-1": Lane(keys=(LaneKey(key=signing_key().public),))})
        self.publish()
        (root / "root.json").write_bytes(self.owner.roots.first_bytes)
        keys.save(signing_key(), root / "signing")
        make_tls_key(root / "tls.key")
        frames = root / "frames"
        frames.mkdir()
        cv2.imwrite(str(frames / "grey.jpg"), np.full((240, 320, 3), 90, np.uint8))
        self.outputs = Outputs(1)
        self.end = ModbusEnd(self.outputs, root / "detector")
        (root / "lane.toml").write_text(f"""
confine = "try"
lane.id = "lane-1"
loop = {{ driver = "modbus", device = {{ port = "{(root / "detector").resolve()}", profile = "ld120", address = 1 }} }}
camera = {{ driver = "files", device = {{ path = "{frames}" }} }}
broker = {{ host = "127.0.0.1", port = 9, ca_file = "ca", certificate_file = "certificate", key_file = "tls.key" }}
keys = {{ signing_key_file = "signing" }}
trust = {{ root_file = "root.json", source = "{self.owner.published}", refresh_s = 1 }}
state = {{ directory = "{self.state}", outbox_mib = 1, checkpoint_s = 1 }}
""")

    def publish(self) -> None:
        self.owner.publish(TARGETS, ONLINE, NOW)

    def ask(self, verb: str = "status") -> Any:
        return ask(socket_path(self.state), verb)

    def faults(self) -> dict[str, str]:
        return dict(self.ask()["faults"])

    @contextmanager
    def running(self) -> Iterator[subprocess.Popen[bytes]]:
        """The daemon, from when it sees its loop and camera; it must end as it was told to."""
        command = [sys.executable, "-m", "edge", "run", "--config", str(self.root / "lane.toml")]
        with (self.root / "log").open("ab") as log, subprocess.Popen(command, stderr=log) as process:
            try:
                until(lambda: process.poll() is not None or self._ready())
                yield process
            finally:
                process.terminate()
                assert process.wait(20) == 0, (self.root / "log").read_text()

    def _ready(self) -> bool:
        try:
            status = self.ask()
        except SealaneError:
            return False
        return (status.get("loop"), status.get("camera")) == ("ok", "ok")

    def outbox(self) -> Outbox:
        return Outbox.open(self.state / "outbox.sqlite", sealer(), LIMITS)


@pytest.fixture
def box(tmp_path: Path) -> Iterator[Box]:
    made = Box(tmp_path)
    yield made
    made.end.close()


def audits(outbox: Outbox) -> list[AuditRecord]:
    opener = FileOpener(recipient_key())
    waiting = (envelope.parse(one.payload) for one in outbox.pending(limit=1000) if one.kind is Kind.AUDIT)
    records = (envelope.open_record(message, opener) for message in waiting)
    return [record for record in records if isinstance(record, AuditRecord)]


def test_with_an_outbox_full_of_audit_records_it_reads_on_and_says_so(box: Box) -> None:
    with box.outbox() as outbox:
        outbox.note({"configuration": "another"})
        for _ in range(LIMITS.kept_messages):
            outbox.append(AUDIT)
        last = outbox.pending(limit=1000)[-1]
        receipt = Receipt("lane-1", last.epoch, last.seq, envelope.parse(last.payload).digest, 1)
    with box.running() as process:
        assert box.faults()["outbox"] == OutboxFull.code
        with pytest.raises(ControlRefused, match=OutboxFull.code):
            box.ask("aim-start")
        box.outputs.switch(box.outputs.presence, 0, True)
        time.sleep(1)
        box.outputs.switch(box.outputs.presence, 0, False)
        until(lambda: box.ask()["counts"].get("visits", 0) == 1)
        assert process.poll() is None
    with box.outbox() as outbox:
        assert [one.kind for one in outbox.pending(limit=1000)][LIMITS.kept_messages :] == [Kind.READ]
        outbox.confirm(receipt)
    with box.running():
        assert "outbox" not in box.faults()
        time.sleep(2.5)
    with box.outbox() as outbox:
        assert [record.event for record in audits(outbox)][:2] == ["boot", "config"]
        assert [one.kind for one in outbox.pending(limit=1000)].count(Kind.CHECKPOINT) == 1


def test_models_of_the_owner_that_do_not_load_are_a_fault_until_the_owner_takes_them_back(box: Box) -> None:
    box.owner.add_target("models/m-1/manifest.json", b'{"format": 99}')
    box.owner.edit(model=ModelBundle(name="m-1", files=("manifest.json",)))
    box.publish()
    with box.running() as process:
        assert box.faults()["model"] == ManifestInvalid.code
        box.ask("aim-start")
        until(lambda: box.ask("aim-view")["view"])
        box.ask("aim-stop")
        box.owner.edit(model=None)
        box.publish()
        assert process.wait(30) == 0  # to be started again with other models
    with box.running():
        assert "model" not in box.faults()
    with box.outbox() as outbox:
        said = [dict(record.facts) for record in audits(outbox) if record.event == "fault"]
    assert {"source": "model", "what": ManifestInvalid.code, "active": 1} in said
