"""TLS certificates that came from elsewhere: in a file, or from the owner."""

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm


def parse_certificate(pem: bytes) -> x509.Certificate | None:
    """The certificate in a PEM text, whose key, subject and times can be read; None if there is no such one."""
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        _ = certificate.public_key(), certificate.subject  # looked at only when they are asked for
    except (ValueError, UnsupportedAlgorithm, x509.InvalidVersion):
        return None
    return certificate


def is_issued_by(certificate: x509.Certificate, ca: bytes) -> bool:
    """Whether an authority, whose certificate is `ca` (PEM), signed that one."""
    issuer = parse_certificate(ca)
    if issuer is None:
        return False
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True
