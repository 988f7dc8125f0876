"""Our general COSE layer against the working group's examples and the vectors of draft-ietf-cose-hpke.

The strict profile of sealane must refuse every one of them: none has its shape.
"""

import json
from base64 import urlsafe_b64decode
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, x448, x25519

from edge.cbor import Malformed, decode
from edge.errors import MessageMalformed, OpeningFailed, ReceiptMalformed, SealError
from edge.seal import cose, envelope, hpke, receipt
from tests.vectors.foreign import folder

EXPECTED = {
    "sign1-tests": 9,
    "sign-tests": 10,
    "ecdsa-examples": 8,
    "eddsa-examples": 4,
    "aes-gcm-examples": 9,
    "encrypted-tests": 10,
    "enveloped-tests": 10,
}
"""Examples in each family that the folder holds; `direct` recipients hand over the content key."""
CURVES: dict[Any, ec.EllipticCurve] = {
    "P-256": ec.SECP256R1(), "P-384": ec.SECP384R1(), "P-521": ec.SECP521R1(),
    1: ec.SECP256R1(), 2: ec.SECP384R1(), 3: ec.SECP521R1(),
}  # fmt: skip
PLAINTEXT = b"This is the content."


def examples(family: str) -> list[tuple[str, dict[str, Any]]]:
    paths = sorted(folder("cose-examples").glob(f"{family}_*.json"))
    assert len(paths) == EXPECTED[family]
    return [(path.stem, json.loads(path.read_text())) for path in paths]


def b64(text: str) -> bytes:
    return urlsafe_b64decode(text + "=" * (-len(text) % 4))


def public_key(jwk: dict[str, str]) -> object:
    coordinates = {
        name: bytes.fromhex(jwk[f"{name}_hex"]) if f"{name}_hex" in jwk else b64(jwk.get(name, "")) for name in "xy"
    }
    match jwk["crv"]:
        case "Ed25519":
            return ed25519.Ed25519PublicKey.from_public_bytes(coordinates["x"])
        case "Ed448":
            return ed448.Ed448PublicKey.from_public_bytes(coordinates["x"])
    x, y = (int.from_bytes(value, "big") for value in coordinates.values())
    return ec.EllipticCurvePublicNumbers(x, y, CURVES[jwk["crv"]]).public_key()


def content_key(jwk: dict[str, str]) -> bytes:
    return b64(jwk["k"])


def run(example: dict[str, Any]) -> bytes:
    """The payload or plaintext of an example, once everything in it has been checked. Raises if it must not pass."""
    data = bytes.fromhex(example["output"]["cbor"])
    given = example["input"]
    if "sign0" in given:
        one = given["sign0"]
        signed = cose.Sign1.parse(data, lenient=True)
        signed.verify(public_key(one["key"]), bytes.fromhex(one.get("external", "")))
        return signed.payload
    if "sign" in given:
        many = cose.Sign.parse(data, lenient=True)
        for index, one in enumerate(given["sign"]["signers"]):
            many.verify(index, public_key(one["key"]), bytes.fromhex(one.get("external", "")))
        return many.payload
    if "encrypted" in given:
        one = given["encrypted"]
        key = content_key(one["recipients"][0]["key"])
        return cose.Encrypt0.parse(data, lenient=True).decrypt(key, bytes.fromhex(one.get("external", "")))
    one = given["enveloped"]
    sealed = cose.Encrypt.parse(data, lenient=True)
    assert sealed.recipients[0].headers.algorithm() == -6  # direct: the recipient's key is the content key
    key = content_key(one["recipients"][0]["key"])
    base_iv = b""
    if "unsent" in one:  # the whole IV, of which the message carries the part that counts
        base_iv = bytes.fromhex(one["unsent"]["IV_hex"])[:-4] + bytes(4)
    return sealed.decrypt(key, bytes.fromhex(one.get("external", "")), base_iv)


def passes(example: dict[str, Any]) -> bool:
    try:
        return run(example) == PLAINTEXT
    except (SealError, Malformed):
        return False


@pytest.mark.parametrize("family", EXPECTED)
def test_the_working_groups_examples_pass_and_fail_as_they_should(family: str) -> None:
    for name, example in examples(family):
        assert passes(example) == (not example.get("fail", False)), name


@pytest.mark.parametrize("family", EXPECTED)
def test_the_strict_profile_takes_none_of_the_working_groups_examples(family: str) -> None:
    for _, example in examples(family):
        data = bytes.fromhex(example["output"]["cbor"])
        with pytest.raises(MessageMalformed):
            envelope.parse(data)
        with pytest.raises(ReceiptMalformed):
            receipt.parse(data)


# --- draft-ietf-cose-hpke; the inputs are in its appendix "Testvectors" ---

AAD, INFO, HPKE_AAD = b"external-aad", b"external-info", b"external-hpke-aad"
PSK = bytes.fromhex("0247fd33b913760fa1fa51e1892d9f307fbe65eb171e8132c2af18555a738b82")
PAYLOAD = b"hpke test payload"


def hpke_vectors(path: Path) -> list[tuple[str, dict[Any, Any], bytes]]:
    """(title, COSE_Key, message) for each vector in the file."""
    found: list[tuple[str, dict[Any, Any], bytes]] = []
    key: dict[Any, Any] = {}
    title = ""
    for line in path.read_text().splitlines():
        if "COSE_Key:" in line:
            value = decode(bytes.fromhex(line.split(": ")[1]), deterministic=False)
            assert isinstance(value, dict)
            key = dict(value)
        elif line.startswith("HPKE-"):
            title = line
        elif line.startswith("Ciphertext: "):
            found.append((title, key, bytes.fromhex(line.removeprefix("Ciphertext: "))))
    return found


def half(key: dict[Any, Any]) -> hpke.PrivateHalf:
    match key[-1]:
        case 4:
            return hpke.SoftwareHalf(x25519.X25519PrivateKey.from_private_bytes(key[-4]))
        case 5:
            return hpke.SoftwareHalf(x448.X448PrivateKey.from_private_bytes(key[-4]))
    return hpke.SoftwareHalf(ec.derive_private_key(int.from_bytes(key[-4], "big"), CURVES[key[-1]]))


def open_message(title: str, key: dict[Any, Any], data: bytes) -> bytes:
    aad = AAD if "external aad" in title else b""
    info = INFO if "external info" in title else b""
    psk = PSK if "PSK" in title else b""
    if "Encrypt0" in title:
        return cose.Encrypt0.parse(data, lenient=True).open(half(key), info=info, external_aad=aad, psk=psk)
    sealed = cose.Encrypt.parse(data, lenient=True)
    one = sealed.recipients[0]
    inner_aad = HPKE_AAD if "external hpke aad" in title else b""
    wrapped = one.unwrap(half(key), sealed.headers.algorithm(), extra_info=info, aad=inner_aad, psk=psk)
    return sealed.decrypt(wrapped, aad)


@pytest.mark.parametrize(
    ("kind", "count"), [("-KE with", 64), ("-KE KE+PSK", 64), ("Encrypt0 with", 32), ("Encrypt0+PSK", 32)]
)
def test_the_vectors_of_draft_cose_hpke_open(kind: str, count: int) -> None:
    vectors = hpke_vectors(folder("cose-hpke") / "testvectors.txt")
    assert len(vectors) == 192
    ours = [vector for vector in vectors if kind in vector[0]]
    assert len(ours) == count
    for title, key, data in ours:
        assert open_message(title, key, data) == PAYLOAD, title
        with pytest.raises(OpeningFailed):
            open_message(title, key, data[:-1] + bytes([data[-1] ^ 1]))
        with pytest.raises(MessageMalformed):
            envelope.parse(data)
