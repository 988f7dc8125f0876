"""The owner's word on its way: enrolment, policies over the broker, certificates and keys changed while a lane runs."""

import datetime
import functools
import http.server
import os
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.resources import files
from pathlib import Path

import cv2
import numpy as np
import pytest
from cryptography import x509
from hw_sim.detector import ModbusEnd, Outputs
from typer.testing import CliRunner

from central.authority import app as authority_app
from central.collector import Collector
from central.lanes import PolicyKeys
from central.repository import Repository
from central.store import Store
from edge import enrolment, keeper
from edge.carrier import DirectoryCarrier
from edge.commands.enrol import command as enrol_command
from edge.config import LaneConfig, load
from edge.errors import AuthorityRefuses, RequestInvalid, TrustRefused
from edge.keeper import Keeper, Standing
from edge.mqtt import Publication, topic, trust_topic
from edge.outbox import Outbox
from edge.publisher import Publisher
from edge.record import AuditRecord
from edge.seal import envelope, keys
from edge.seal.keys import PrivateKey
from edge.seal.opener import FileOpener
from edge.seal.signer import FileSigner
from edge.trust import Trust
from tests.integration.lane_site import Site, read, until

SHIPPED = Path(str(files("models")))


def authority(*words: object) -> str:
    """`sealane authority WORDS`; an error of ours is raised."""
    result = CliRunner().invoke(authority_app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


def enrol(*words: object) -> str:
    import typer

    app = typer.Typer()
    app.command()(enrol_command)
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


class Owner:
    """A data owner with an authority, two readers and a collector; and the site's TLS authority as his own."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self.folder = site.root / "authority"
        authority("init", self.folder, "--no-passphrase")
        shutil.rmtree(self.folder / "tls")
        shutil.copytree(site.tls, self.folder / "tls")
        self.readers: dict[str, PrivateKey] = {}
        for name in ("owner", "escrow"):
            self.add_reader(name)
        authority("add-collector", self.folder, site.root / "collector.pub")

    def add_reader(self, name: str, *words: object) -> None:
        key = keys.make_recipient_key()
        self.readers[name] = key
        public = keys.save(key, self.site.root / f"reader-{name}")
        authority("add-recipient", self.folder, public, "--note", name, *words)

    @property
    def repository(self) -> Repository:
        return Repository(self.folder)

    def sign(self, *words: object) -> None:
        authority("sign", self.folder, *words)

    def publish(self) -> None:
        tls, address = self.site.tls, f"localhost:{self.site.broker.port}"
        names = tls / "owner.central.pem", tls / "owner.central.key"
        authority("publish", self.folder, *self.over_broker(address, tls / "ca.pem", *names))

    def retain(self, name: str, data: bytes) -> None:
        """What a hostile broker may do: put an old file back in the place of the new one."""
        with self.site.session_of("owner.central") as session:
            session.publish(Publication(trust_topic(name), data, retain=True))
            session.wait(5)

    @staticmethod
    def over_broker(address: str, ca: Path, certificate: Path, key: Path) -> tuple[object, ...]:
        return ("--broker", address, "--ca", ca, "--certificate", certificate, "--key", key)

    def accept_requests(self) -> str:
        tls = self.site.tls
        names = tls / "ca.pem", tls / "owner.central.pem", tls / "owner.central.key"
        over = self.over_broker(f"localhost:{self.site.broker.port}", *names)
        return authority("accept-requests", self.folder, *over, "--listen-s", 1.5)


class Box:
    """A lane's box from lane.toml on: what the daemon does with outbox, publisher and keeper."""

    def __init__(self, owner: Owner, name: str = "lane-1", source: str = "broker") -> None:
        self.name = name
        self.folder = owner.site.root / f"box-{name}"
        self.folder.mkdir()
        self.config = self.folder / "lane.toml"
        self.config.write_text(
            f"""
lane.id = "{name}"
loop.driver = "contact"
camera.driver = "files"
[broker]
host = "localhost"
port = {owner.site.broker.port}
ca_file = "ca.pem"
certificate_file = "tls.pem"
key_file = "tls.key"
keepalive_s = 5
[keys]
signing_key_file = "signing"
[trust]
root_file = "root.json"
source = "{source}"
refresh_s = 1
[state]
directory = "state"
receipt_timeout_s = 1
"""
        )
        (self.folder / "state").mkdir()
        self.standings: list[Standing] = []

    @property
    def settings(self) -> LaneConfig:
        return load(self.config)

    def ask(self) -> Path:
        request = self.folder / "request"
        self.shown = enrol("--config", self.config, "--request", request)
        return request

    def enrol_with(self, owner: Owner) -> None:
        request = self.ask()
        fingerprint = enrolment.parse(request.read_bytes()).fingerprint
        authority("add-lane", owner.folder, request, "--fingerprint", fingerprint)
        owner.sign()
        self.finish(owner, owner.folder / f"{self.name}.enrolled")

    def finish(self, owner: Owner, reply: Path) -> None:
        said = owner.repository.roots.fingerprint
        enrol("--config", self.config, "--finish", reply, "--root-fingerprint", said)

    @contextmanager
    def running(self) -> Iterator["Box"]:
        settings = self.settings
        watch, standing = keeper.stand(settings)
        assert isinstance(watch, Keeper)
        self.standings.append(standing)
        self.outbox = Outbox.open(self.folder / "state" / "outbox.sqlite", standing.sealer)
        self.publisher = Publisher(
            settings.broker,
            self.name,
            self.outbox,
            standing.collectors,
            receipt_timeout_s=settings.state.receipt_timeout_s,
            state=lambda: {},
            carried=watch.carried,
            connected=watch.connected,
        )
        stop = threading.Event()

        def follow(standing: Standing) -> None:
            self.standings.append(standing)
            self.outbox.use(standing.sealer)
            self.publisher.follow(standing.collectors, standing.certificate_file, standing.request)

        threads = [
            threading.Thread(target=self.publisher.run, args=(stop, lambda: None)),
            threading.Thread(target=watch.run, args=(stop, lambda: None, follow)),
        ]
        for thread in threads:
            thread.start()
        try:
            yield self
        finally:
            stop.set()
            self.publisher.wake()
            for thread in threads:
                thread.join(20)
            self.outbox.close()

    @property
    def standing(self) -> Standing:
        return self.standings[-1]

    def append(self) -> None:
        self.outbox.append(read())
        self.publisher.wake()


@pytest.fixture
def owner(site: Site) -> Owner:
    return Owner(site)


@pytest.fixture
def box(owner: Owner) -> Box:
    made = Box(owner)
    made.enrol_with(owner)
    owner.publish()
    return made


@contextmanager
def collecting(owner: Owner, folder: Path) -> Iterator[Collector]:
    """A collector that goes by the owner's policy."""
    trust = Trust(folder / "collector-trust", owner.repository.roots.first_bytes)
    lane_keys = PolicyKeys(trust, DirectoryCarrier(owner.repository.published))
    site = owner.site
    stop, session = threading.Event(), site.session("collector.central", resume=True)
    store = Store(site.store_address)
    collector = Collector(session, store, lane_keys, FileSigner(site.collector))
    thread = threading.Thread(target=collector.run, args=(stop,))
    thread.start()
    try:
        yield collector
    finally:
        stop.set()
        session.wake()
        thread.join(20)
        store.close()


def readers_of(site: Site) -> list[set[bytes]]:
    store = Store(site.store_address, read_only=True)
    return [set(envelope.parse(message.sealed).recipients) for message in store.messages()]


def kid(owner: Owner, name: str) -> bytes:
    return owner.readers[name].public.kid


def test_a_box_is_enrolled_and_its_first_record_is_read_by_both_readers(owner: Owner, box: Box, tmp_path: Path) -> None:
    assert "fingerprint" in box.shown
    assert "\u2588" in box.shown or "\u2580" in box.shown  # the QR code
    with collecting(owner, tmp_path), box.running():
        box.append()
        until(lambda: box.outbox.depth == 0)
    (stored,) = Store(owner.site.store_address, read_only=True).messages()
    message = envelope.parse(stored.sealed)
    assert message.header.trust_version == 1
    for key in owner.readers.values():
        envelope.open_record(message, FileOpener(key))


def test_a_request_that_does_not_show_the_fingerprint_is_not_countersigned(owner: Owner) -> None:
    box = Box(owner)
    request = box.ask()
    with pytest.raises(RequestInvalid):
        authority("add-lane", owner.folder, request, "--fingerprint", "00 " * 16)
    request.write_bytes(request.read_bytes().replace(b'"lane-1"', b'"lane-2"'))
    with pytest.raises(RequestInvalid):
        authority("add-lane", owner.folder, request, "--fingerprint", "00 " * 16)


def test_a_box_takes_no_reply_that_is_for_another_box_or_was_not_signed(owner: Owner, box: Box) -> None:
    other = Box(owner, "lane-2")
    request = other.ask()
    fingerprint = enrolment.parse(request.read_bytes()).fingerprint
    with pytest.raises(RequestInvalid):
        other.finish(owner, owner.folder / "lane-1.enrolled")
    authority("add-lane", owner.folder, request, "--fingerprint", fingerprint)
    with pytest.raises(RequestInvalid):
        other.finish(owner, owner.folder / "lane-2.enrolled")


@pytest.fixture
def varlib() -> Iterator[Path]:
    """A folder that every user may come to, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def test_beside_the_unit_private_keys_stay_in_roots_folder_and_the_state_is_the_services(
    owner: Owner, varlib: Path
) -> None:
    box = Box(owner)
    text = (
        box.config.read_text()
        .replace('"state"', f'"{varlib}"')
        .replace('"tls.key"', '"$CREDENTIALS_DIRECTORY/private_tls.key"')
    )
    box.config.write_text(text.replace('"signing"', '"$CREDENTIALS_DIRECTORY/private_lane.key"'))
    (box.folder / "private").mkdir(mode=0o700)
    service = 64321 if os.geteuid() == 0 else os.geteuid()
    os.chown(varlib, service, -1)
    box.enrol_with(owner)
    assert {path.name for path in (box.folder / "private").iterdir()} == {"lane.key", "lane.key.pub", "tls.key"}
    assert {path.stat().st_uid for path in varlib.rglob("*")} == {service}


def test_readers_roll_over_while_the_lane_runs_and_no_record_is_without_one(
    owner: Owner, box: Box, tmp_path: Path
) -> None:
    with collecting(owner, tmp_path), box.running():
        box.append()
        owner.add_reader("new")
        owner.sign()
        owner.publish()
        until(lambda: box.standing.version == 2)
        box.append()
        authority("revoke", owner.folder, owner.readers["owner"].public.fingerprint)
        owner.sign()
        owner.publish()
        until(lambda: box.standing.version == 3)
        box.append()
        until(lambda: box.outbox.depth == 0)
    old, escrow, new = (kid(owner, name) for name in ("owner", "escrow", "new"))
    assert readers_of(owner.site) == [{old, escrow}, {old, escrow, new}, {escrow, new}]


def test_a_certificate_renews_over_the_connection_and_is_used_at_the_next_one(
    owner: Owner, box: Box, tmp_path: Path
) -> None:
    before = x509.load_pem_x509_certificate((box.folder / "tls.pem").read_bytes())
    with collecting(owner, tmp_path), box.running():
        until(lambda: box.publisher.status.connected)
        authority("renew", owner.folder, "--days", 1)
        assert not (box.folder / "state" / "trust" / "certificate.pem").exists()
        authority("renew", owner.folder, "--days", 4000)
        owner.sign()
        owner.publish()
        until(lambda: box.standing.certificate_file != box.settings.broker.certificate_file)
        after = x509.load_pem_x509_certificate(box.standing.certificate_file.read_bytes())
        assert after.serial_number != before.serial_number
        connects = box.publisher.status.connects
        owner.site.broker.kill()
        owner.site.broker.start()
        until(lambda: box.publisher.status.connects > connects)
        box.append()
        until(lambda: box.outbox.depth == 0)


def test_a_signing_key_rotates_without_touching_the_box_and_without_losing_a_record(
    owner: Owner, box: Box, tmp_path: Path
) -> None:
    first = box.settings.keys.signing_key_file
    with collecting(owner, tmp_path) as collector, box.running():
        box.append()
        authority("rotate-lane", owner.folder, "lane-1")
        owner.sign()
        owner.publish()
        until(lambda: box.standing.request is not None)
        box.append()
        assert "will sign with" in owner.accept_requests()
        owner.sign()
        owner.publish()
        until(lambda: box.standing.version == 3 and box.standing.request is None)
        box.append()
        until(lambda: box.outbox.depth == 0)
        assert collector.counts["stored"] == 3
    kids = [envelope.parse(m.sealed).kid for m in Store(owner.site.store_address, read_only=True).messages()]
    assert kids[0] == kids[1] == keys.load_private(first, keys.Purpose.SIGNING).public.kid != kids[2]
    with box.running():  # and after a restart the new key is still the one
        assert box.standing.sealer.signer.public.kid == kids[2]


def test_a_request_that_nobody_asked_for_or_vouched_for_is_not_taken(owner: Owner, box: Box) -> None:
    thief = FileSigner(keys.make_signing_key())
    tls_key = keeper.tls_public(box.folder / "tls.key")
    forged = enrolment.make("lane-1", thief, tls_key, old=thief)
    shutil.copy(box.folder / "tls.pem", owner.site.tls / "lane-1.pem")
    shutil.copy(box.folder / "tls.key", owner.site.tls / "lane-1.key")
    with owner.site.session_of("lane-1") as session:
        session.publish(Publication(topic("lane-1", "request"), forged, retain=True))
        session.wait(5)
    assert "will sign" not in owner.accept_requests()
    authority("rotate-lane", owner.folder, "lane-1")
    refused = owner.accept_requests()
    assert RequestInvalid.code in refused
    assert "will sign" not in refused


def test_a_revoked_lane_is_refused_and_its_old_records_still_count(
    owner: Owner, box: Box, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with collecting(owner, tmp_path) as collector, box.running():
        box.append()
        until(lambda: box.outbox.depth == 0)
        signer = box.standing.sealer.signer.public
        authority("revoke", owner.folder, signer.fingerprint, "--reason", "stolen")
        owner.sign()
        monkeypatch.setattr("central.lanes.REFRESH_S", 0.0)
        box.append()
        until(lambda: collector.counts["COL-01"] > 0)
        assert collector.counts["stored"] == 1


def test_old_metadata_replayed_by_the_broker_changes_nothing(owner: Owner, box: Box) -> None:
    old = dict(owner.repository.files())
    with box.running():
        authority("allow-picture", owner.folder, "true")
        owner.sign()
        owner.publish()
        until(lambda: box.standing.version == 2)
        assert box.standing.aim_picture
        for name, data in old.items():
            owner.retain(name, data)
        until(lambda: box.standing.fault == TrustRefused.code)
        assert box.standing.version == 2
        assert box.standing.aim_picture


def test_junk_under_a_name_that_the_owner_has_no_file_for_is_over_with_the_next_connection(
    owner: Owner, box: Box
) -> None:
    with box.running():
        authority("allow-picture", owner.folder, "true")
        owner.sign()
        owner.publish()
        until(lambda: box.standing.aim_picture)  # so it hears what comes
        with owner.site.session_of("owner.central") as session:
            owner.site.say(session, trust_topic("metadata/2.root.json"), b"junk")  # not retained: never taken back
        until(lambda: box.standing.fault == TrustRefused.code)
        owner.site.broker.stop()
        owner.site.broker.start()
        authority("allow-picture", owner.folder, "false")
        owner.sign()
        owner.publish()
        until(lambda: not box.standing.aim_picture)
        assert box.standing.fault is None


def test_the_policy_comes_from_a_folder_or_a_web_server_too(owner: Owner, tmp_path: Path) -> None:
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=owner.repository.published)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    sources = str(owner.repository.published), f"http://127.0.0.1:{server.server_port}"
    for number, source in enumerate(sources):
        box = Box(owner, f"lane-{number}", source)
        box.enrol_with(owner)
        watch, standing = keeper.stand(box.settings)
        assert watch is not None
        assert watch.carried is None
        authority("allow-picture", owner.folder, str(number == 0).lower())
        owner.sign()
        later = watch.step(datetime.datetime.now(datetime.UTC))
        assert later.version > standing.version
        assert later.fault is None
    server.shutdown()
    server.server_close()
    stale = watch.step(datetime.datetime.now(datetime.UTC)) if watch else later
    assert stale.fault == "TRUST-04"
    assert stale.sealer.recipients == later.sealer.recipients


def test_models_come_with_the_owners_signature_or_not_at_all(owner: Owner, tmp_path: Path) -> None:
    box = Box(owner, source=str(owner.repository.published))
    box.enrol_with(owner)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    for name in ("manifest.json", "detector.tflite", "ocr.tflite"):
        shutil.copy(SHIPPED / name, bundle)
    authority("add-model", owner.folder, bundle)
    owner.sign()
    (altered,) = owner.repository.published.glob("targets/models/*/ocr.tflite")
    altered.write_bytes(b"another")
    watch, standing = keeper.stand(box.settings)
    assert watch is not None
    assert (standing.model_folder, standing.fault) == (None, None)
    standing = watch.step(datetime.datetime.now(datetime.UTC))
    assert (standing.model_folder, standing.fault) == (None, TrustRefused.code)
    shutil.copy(SHIPPED / "ocr.tflite", altered)
    standing = watch.step(datetime.datetime.now(datetime.UTC))
    assert standing.fault is None
    assert standing.model_folder is not None
    assert {path.name: path.read_bytes() for path in standing.model_folder.iterdir()} == {
        path.name: path.read_bytes() for path in bundle.iterdir()
    }
    assert keeper.stand(box.settings)[1].model_folder == standing.model_folder
    authority("shipped-model", owner.folder)
    owner.sign()
    assert watch.step(datetime.datetime.now(datetime.UTC)).model_folder is None


def test_a_policy_with_one_reader_needs_force(owner: Owner) -> None:
    for name in ("owner", "escrow"):
        authority("revoke", owner.folder, owner.readers[name].public.fingerprint)
    owner.add_reader("alone")
    with pytest.raises(AuthorityRefuses):
        owner.sign()
    owner.sign("--force")


def test_root_keys_rotate_on_several_machines(owner: Owner, box: Box, tmp_path: Path) -> None:
    fresh = keys.make_signing_key()
    public = keys.save(fresh, tmp_path / "root-4")
    first = keys.load_public(owner.folder / "keys" / "root-1.pub", keys.Purpose.SIGNING)
    authority("rotate-root", owner.folder, "--add", public, "--remove", first.fingerprint)
    roots = [("--root-key", owner.folder / "keys" / f"root-{number}", "--yes") for number in (2, 3)]
    assert "more signatures" in authority("sign", owner.folder, *roots[0])
    assert "is published" in authority("sign", owner.folder, *roots[1])
    assert "root 2: 3 keys, 2 must sign" in authority("status", owner.folder)
    authority("allow-picture", owner.folder, "true")
    owner.sign()
    owner.publish()
    with box.running():
        until(lambda: box.standing.version == 2)


def test_status_names_everybody_and_what_the_draft_changes(
    owner: Owner, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    authority("allow-picture", owner.folder, "true")
    shown = authority("status", owner.folder)
    for word in (
        "policy 1",
        "fresh until",
        ", until ",
        "escrow",
        "lane-1",
        "collector",
        owner.readers["owner"].public.fingerprint,
        "draft differs",
    ):
        assert word in shown
    assert os.linesep in shown


def test_who_signs_freshness_alone_hears_in_time_that_the_policy_ends(
    owner: Owner, box: Box, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=280)
    assert "the policy itself ends" not in authority("sign", owner.folder, "--fresh")
    monkeypatch.setattr("central.options.utc_now", lambda: later)
    assert "the policy itself ends" not in authority("sign", owner.folder, "--fresh")
    monkeypatch.setattr("central.options.utc_now", lambda: later + datetime.timedelta(days=40))
    assert "the policy itself ends" in authority("sign", owner.folder, "--fresh")


def test_the_daemon_itself_goes_by_the_policy_and_signs_that_it_changed(owner: Owner, tmp_path: Path) -> None:
    box = Box(owner)
    frames = tmp_path / "frames"
    frames.mkdir()
    cv2.imwrite(str(frames / "grey.jpg"), np.full((240, 320, 3), 90, np.uint8))
    detector = ModbusEnd(Outputs(1), box.folder / "detector")
    line = (box.folder / "detector").resolve()
    box.config.write_text(
        box.config.read_text().replace(
            'loop.driver = "contact"\ncamera.driver = "files"\n',
            f"""confine = "try"
loop = {{ driver = "modbus", device = {{ port = "{line}", profile = "ld120", address = 1 }} }}
camera = {{ driver = "files", device = {{ path = "{frames}" }} }}
""",
        )
    )
    box.enrol_with(owner)
    owner.publish()
    log = (tmp_path / "log").open("wb")
    with collecting(owner, tmp_path) as collector:
        process = subprocess.Popen([sys.executable, "-m", "edge", "run", "--config", box.config], stderr=log)
        try:
            until(lambda: collector.counts["stored"] > 0, 60)
            owner.add_reader("new")
            owner.sign()
            owner.publish()
            until(lambda: kid(owner, "new") in readers_of(owner.site)[-1], 60)
        finally:
            process.terminate()
            assert process.wait(30) == 0, (tmp_path / "log").read_text()
    detector.close()
    opener = FileOpener(owner.readers["owner"])
    messages = [envelope.parse(m.sealed) for m in Store(owner.site.store_address, read_only=True).messages()]
    said = [envelope.open_record(message, opener) for message in messages]
    changes = [record.facts for record in said if isinstance(record, AuditRecord) and record.event == "trust"]
    assert ("policy", 2) in changes[-1]
    assert ("readers", 3) in changes[-1]
