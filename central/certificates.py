"""TLS certificates: a small authority in a folder (ca.pem, ca.key), and certificates that it issues.

A certificate says who connects, never who signed a record: that is another key. The name (CN) is the MQTT user name.
"""

import datetime
import ipaddress
from collections.abc import Sequence
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from edge.certificate import parse_certificate
from edge.errors import KeyFileMalformed, KeyFileMissing
from edge.seal import keys

AUTHORITY_DAYS = 3650
CLIENT_DAYS = 365
SKEW = datetime.timedelta(hours=1)
"""A certificate is valid from this long ago: the clock of the box that gets it may be behind."""


class Authority:
    """Issues certificates. `open_or_make` keeps it in a folder; its private key has mode 0600."""

    def __init__(self, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.certificate = certificate
        self._key = key

    @classmethod
    def open_or_make(cls, directory: Path) -> "Authority":
        """The authority kept in `directory`; made there if there is none. KeyFileMissing, KeyFileMalformed."""
        certificate_file, key_file = directory / "ca.pem", directory / "ca.key"
        if not certificate_file.exists() and not key_file.exists():
            authority = cls._make()
            write_new(key_file, private_pem(authority._key), 0o600)
            write_new(certificate_file, authority.pem, 0o644)
            return authority
        try:
            certificate = parse_certificate(certificate_file.read_bytes())
            key = load_pem_private_key(key_file.read_bytes(), None)
        except OSError as error:
            raise KeyFileMissing(f"cannot read {error.filename}: {error.strerror}") from error
        except (ValueError, TypeError, UnsupportedAlgorithm) as error:
            raise KeyFileMalformed(f"{key_file} holds no key of an authority") from error
        if certificate is None:
            raise KeyFileMalformed(f"{certificate_file} holds no certificate of an authority")
        if not isinstance(key, ec.EllipticCurvePrivateKey) or certificate.public_key() != key.public_key():
            raise KeyFileMalformed(f"ca.pem and ca.key in {directory} do not belong together")
        return cls(certificate, key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    def issue(
        self, name: str, public: ec.EllipticCurvePublicKey, *, hosts: Sequence[str] = (), days: int = CLIENT_DAYS
    ) -> bytes:
        """A certificate (PEM) for `name`: for a server that is reached as `hosts`, or without any for a client."""
        usage = ExtendedKeyUsageOID.SERVER_AUTH if hosts else ExtendedKeyUsageOID.CLIENT_AUTH
        builder = (
            _builder(name, self.certificate.subject, public, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if hosts:
            builder = builder.add_extension(x509.SubjectAlternativeName([_host(h) for h in hosts]), critical=False)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    @classmethod
    def _make(cls) -> "Authority":
        key, name = make_key(), "sealane authority"
        usage = x509.KeyUsage(
            digital_signature=True,
            key_cert_sign=True,
            crl_sign=True,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            encipher_only=False,
            decipher_only=False,
        )
        certificate = (
            _builder(name, _name(name), key.public_key(), AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)


def make_key() -> ec.EllipticCurvePrivateKey:
    """A new key for a TLS certificate."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def write_new(path: Path, pem: bytes, mode: int) -> None:
    """As `edge.seal.keys.write_new`, in a folder that is made if there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise KeyFileMissing(f"cannot write {path}: {error.strerror}") from error
    keys.write_new(path, pem.decode(), mode)


def _builder(name: str, issuer: x509.Name, public: ec.EllipticCurvePublicKey, days: int) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(_name(name))
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - SKEW)
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)
