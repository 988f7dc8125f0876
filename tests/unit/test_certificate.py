"""Certificates that no program of ours issued."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from central.certificates import Authority, make_key
from central.options import own_name
from edge.certificate import parse_certificate
from edge.errors import KeyFileMalformed, MqttFiles

P256, NO_CURVE = bytes.fromhex("06082a8648ce3d030107"), bytes.fromhex("06082a8648ce3d030109")
VERSION_3, VERSION_6 = bytes.fromhex("a003020102"), bytes.fromhex("a003020105")
ISSUED_TO, NO_TEXT = b"\x0c\x06lane-1", b"\x0c\x06lan\xff-1"

Damage = Callable[[bytes], bytes]


def replaced(there: bytes, instead: bytes) -> Damage:
    """A certificate that says something else at one place."""

    def damage(pem: bytes) -> bytes:
        der = ssl.PEM_cert_to_DER_cert(pem.decode())
        assert there in der
        return ssl.DER_cert_to_PEM_cert(der.replace(there, instead)).encode()

    return damage


DAMAGES: dict[str, Damage] = {
    "a curve that is none": replaced(P256, NO_CURVE),
    "a version that is none": replaced(VERSION_3, VERSION_6),
    "a half": lambda pem: pem[: len(pem) // 2],
    "nothing": lambda pem: b"",
}


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority.open_or_make(tmp_path / "tls")


@pytest.fixture
def issued(authority: Authority) -> bytes:
    return authority.issue("lane-1", make_key().public_key())


def test_a_certificate_is_parsed_to_what_it_says(authority: Authority) -> None:
    assert parse_certificate(authority.pem) == authority.certificate


@pytest.mark.parametrize(
    "damage", [*DAMAGES.values(), replaced(ISSUED_TO, NO_TEXT)], ids=[*DAMAGES, "a name that is none"]
)
def test_what_cannot_be_read_as_a_certificate_is_none_and_names_nobody(
    issued: bytes, tmp_path: Path, damage: Damage
) -> None:
    assert parse_certificate(damage(issued)) is None
    (tmp_path / "own.pem").write_bytes(issued)
    assert own_name(tmp_path / "own.pem") == "lane-1"
    (tmp_path / "own.pem").write_bytes(damage(issued))
    with pytest.raises(MqttFiles, match="holds no certificate"):
        own_name(tmp_path / "own.pem")


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_an_authority_whose_certificate_cannot_be_read_is_malformed(
    authority: Authority, tmp_path: Path, damage: Damage
) -> None:
    (tmp_path / "tls" / "ca.pem").write_bytes(damage(authority.pem))
    with pytest.raises(KeyFileMalformed, match=r"ca\.pem holds no certificate"):
        Authority.open_or_make(tmp_path / "tls")


def test_an_authority_whose_key_is_of_no_known_curve_is_malformed(authority: Authority, tmp_path: Path) -> None:
    der = make_key().private_bytes(Encoding.DER, PrivateFormat.PKCS8, NoEncryption())
    assert P256 in der
    pem = ssl.DER_cert_to_PEM_cert(der.replace(P256, NO_CURVE)).replace("CERTIFICATE", "PRIVATE KEY")
    (tmp_path / "tls" / "ca.key").write_text(pem)
    with pytest.raises(KeyFileMalformed, match=r"ca\.key holds no key"):
        Authority.open_or_make(tmp_path / "tls")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_whatever_bytes_are_in_a_certificate_it_is_one_or_none(issued: bytes, data: st.DataObject) -> None:
    der = ssl.PEM_cert_to_DER_cert(issued.decode())
    place, instead = data.draw(st.integers(0, len(der) - 1)), data.draw(st.binary(max_size=4))
    changed = der[:place] + instead + der[place + len(instead) :]
    parse_certificate(ssl.DER_cert_to_PEM_cert(changed).encode())
