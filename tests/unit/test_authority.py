"""`sealane authority`: what it refuses before anything is in the draft."""

from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from typer.testing import CliRunner

from central.authority import app
from central.repository import Repository
from edge import enrolment
from edge.errors import AuthorityUnknown, RequestInvalid
from edge.seal.signer import FileSigner
from tests.sealing import signing_key


def authority(*words: object) -> None:
    """`sealane authority WORDS`; an error of ours is raised."""
    assert CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False).exit_code == 0


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    authority("init", tmp_path / "authority", "--no-passphrase")
    return tmp_path / "authority"


def request_of(lane: str, folder: Path) -> tuple[Path, str]:
    """A lane's request in a file, and its fingerprint."""
    data = enrolment.make(lane, FileSigner(signing_key()), ec.generate_private_key(ec.SECP256R1()).public_key())
    path = folder / f"{lane}.request"
    path.write_bytes(data)
    return path, enrolment.parse(data).fingerprint


def test_an_enrolled_lane_has_its_epoch_its_certificate_and_a_folder_to_carry(folder: Path) -> None:
    request, fingerprint = request_of("lane-1", folder)
    authority("add-lane", folder, request, "--fingerprint", fingerprint, "--new-epoch", "00000000000000AB")
    (lane,) = Repository(folder).draft.lanes.values()
    assert [one.key.kid for one in lane.keys] == [signing_key().public.kid]
    assert lane.epochs == ("00000000000000ab",)
    assert {path.name for path in (folder / "lane-1.enrolled").iterdir()} == {
        "root.json", "ca.pem", "certificate.pem", "repository",
    }  # fmt: skip
    assert (folder / "requests" / "lane-1").read_bytes() == request.read_bytes()


@pytest.mark.parametrize("epoch", ["", "ab", "00000000000000zz", "00000000000000ab0"])
def test_an_epoch_that_is_none_changes_no_draft(folder: Path, epoch: str) -> None:
    request, fingerprint = request_of("lane-1", folder)
    with pytest.raises(AuthorityUnknown, match="an epoch has 16 hex digits"):
        authority("add-lane", folder, request, "--fingerprint", fingerprint, "--new-epoch", epoch)
    authority("add-lane", folder, request, "--fingerprint", fingerprint)
    with pytest.raises(AuthorityUnknown, match="an epoch has 16 hex digits"):
        authority("announce-epoch", folder, "lane-1", epoch)
    assert Repository(folder).draft.lanes["lane-1"].epochs == ()


def test_a_lane_nobody_enrolled_has_neither_epoch_nor_key_to_change(folder: Path) -> None:
    with pytest.raises(AuthorityUnknown, match="no lane lane-9"):
        authority("announce-epoch", folder, "lane-9", "00000000000000ab")
    with pytest.raises(AuthorityUnknown, match="no lane lane-9"):
        authority("rotate-lane", folder, "lane-9")


def test_no_lane_is_called_as_the_owners_own_topic(folder: Path) -> None:
    request, fingerprint = request_of("trust", folder)
    with pytest.raises(RequestInvalid, match="no lane can be called trust"):
        authority("add-lane", folder, request, "--fingerprint", fingerprint)
    assert Repository(folder).draft.lanes == {}
