import base64
import json
import textwrap

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from edge import enrolment
from edge.errors import RequestInvalid
from edge.seal.signer import FileSigner
from tests.sealing import signing_key

TLS_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()


def test_a_request_comes_back_as_it_was_made() -> None:
    request = enrolment.parse(enrolment.make("lane-1", FileSigner(signing_key()), TLS_KEY))
    assert (request.lane, request.signing_key.kid) == ("lane-1", signing_key().public.kid)


def test_a_tls_key_on_a_curve_that_nobody_knows_is_refused_with_a_code() -> None:
    der = TLS_KEY.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    unknown = der.replace(bytes.fromhex("2a8648ce3d030107"), bytes.fromhex("2a8648ce3d03017f"))
    body = "\n".join(textwrap.wrap(base64.b64encode(unknown).decode(), 64))
    wire = json.loads(enrolment.make("lane-1", FileSigner(signing_key()), TLS_KEY))
    wire["tls_key"] = f"-----BEGIN PUBLIC KEY-----\n{body}\n-----END PUBLIC KEY-----\n"
    with pytest.raises(RequestInvalid):
        enrolment.parse(json.dumps(wire).encode())
