"""Wycheproof's hostile cases, family by family, through the functions that seal and open records."""

import json
from typing import Any

import pytest
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import mlkem, x25519
from cryptography.hazmat.primitives.serialization import load_der_public_key

from edge.errors import SealError
from edge.seal import cose, hpke
from edge.seal.signer import SignatureAlgorithm, check
from tests.vectors.foreign import folder


def cases(family: str, count: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """(group, test) for each case of a family."""
    vectors = json.loads((folder("wycheproof") / f"{family}_test.json").read_text())
    found = [(group, test) for group in vectors["testGroups"] for test in group["tests"]]
    assert len(found) == vectors["numberOfTests"] == count
    return found


@pytest.mark.parametrize(
    ("family", "count", "algorithm"),
    [
        ("ed25519", 151, SignatureAlgorithm.ED25519),
        ("ecdsa_secp256r1_sha256_p1363", 262, SignatureAlgorithm.ESP256),
    ],
)
def test_signatures(family: str, count: int, algorithm: SignatureAlgorithm) -> None:
    for group, test in cases(family, count):
        key = load_der_public_key(bytes.fromhex(group["publicKeyDer"]))
        try:
            check(algorithm, key, bytes.fromhex(test["msg"]), bytes.fromhex(test["sig"]))
            held = True
        except SealError:
            held = False
        assert held == (test["result"] == "valid"), test["tcId"]


def test_aes_gcm() -> None:
    """Keys of 128, 192 and 256 bits; IVs that AES-GCM of `cryptography` takes (8 to 128 bytes)."""
    algorithms = {128: 1, 192: 2, 256: 3}
    for group, test in cases("aes_gcm", 316):
        data = {name: bytes.fromhex(test[name]) for name in ("key", "iv", "aad", "msg", "ct", "tag")}
        cipher = cose.content_cipher(algorithms[group["keySize"]], data["key"])
        try:
            opened = cipher.decrypt(data["iv"], data["ct"] + data["tag"], data["aad"]) == data["msg"]
        except (InvalidTag, ValueError):
            opened = False
        assert opened == (test["result"] == "valid" and 64 <= group["ivSize"] <= 1024), test["tcId"]


def test_x25519() -> None:
    """`acceptable` cases are low-order or non-canonical points; an all-zero result must be refused."""
    for _, test in cases("x25519", 518):
        private = hpke.SoftwareHalf(x25519.X25519PrivateKey.from_private_bytes(bytes.fromhex(test["private"])))
        shared = bytes.fromhex(test["shared"])
        try:
            agreed: bytes | None = private.agree(bytes.fromhex(test["public"]))
        except ValueError:
            agreed = None
        assert agreed == (shared if any(shared) else None), test["tcId"]


def test_hkdf_sha256() -> None:
    for _, test in cases("hkdf_sha256", 86):
        if test["result"] == "valid":
            prk = hpke.HKDF_SHA256.extract(bytes.fromhex(test["salt"]), bytes.fromhex(test["ikm"]))
            assert hpke.HKDF_SHA256.expand(prk, bytes.fromhex(test["info"]), test["size"]).hex() == test["okm"]
        else:
            with pytest.raises(ValueError):
                hpke.HKDF_SHA256.expand(bytes(32), bytes.fromhex(test["info"]), test["size"])


def test_ml_kem_768_decapsulation_within_the_hybrid() -> None:
    """The hybrid's secret is a hash over ML-KEM's, so the right one is right in both."""
    classical = x25519.X25519PrivateKey.from_private_bytes(bytes(range(32)))
    ephemeral = x25519.X25519PrivateKey.from_private_bytes(bytes(range(1, 33)))
    point = ephemeral.public_key().public_bytes_raw()
    shared = classical.exchange(ephemeral.public_key())
    for _, test in cases("mlkem_768", 193):
        seed, ciphertext = bytes.fromhex(test["seed"]), bytes.fromhex(test["c"])
        try:
            lattice = mlkem.MLKEM768PrivateKey.from_seed_bytes(seed)
            secret: bytes | None = hpke.HybridHalf(lattice, classical).agree(ciphertext + point)
        except ValueError:
            secret = None
        expected = None
        if test["result"] == "valid":
            expected = hpke.combine(bytes.fromhex(test["K"]), shared, point, classical.public_key().public_bytes_raw())
        assert secret == expected, test["tcId"]


def test_ml_kem_768_public_keys_that_are_none_are_refused() -> None:
    """Encapsulation draws its own randomness, so a valid key can only be taken, an invalid one must not be."""
    for _, test in cases("mlkem_768_encaps", 265):
        try:
            hpke.MLKEM768_X25519.encapsulate(bytes.fromhex(test["ek"]) + bytes([9]) + bytes(31))
            taken = True
        except ValueError:
            taken = False
        assert taken == (test["result"] == "valid"), test["tcId"]
