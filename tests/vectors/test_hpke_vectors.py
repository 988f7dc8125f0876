"""HPKE against the vectors of RFC 9180 and of draft-ietf-hpke-pq, which come with cryptography_vectors."""

import hashlib
from typing import Any

import pytest
from cryptography.hazmat.primitives import hpke as theirs
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448, x25519

from edge.errors import OpeningFailed
from edge.seal import hpke
from tests.vectors.foreign import packaged

KEMS: dict[int, hpke.Kem] = {kem.id: kem for kem in (hpke.P256, hpke.P384, hpke.P521, hpke.X25519, hpke.X448)}
KDFS: dict[int, hpke.Kdf] = {
    kdf.id: kdf for kdf in (hpke.HKDF_SHA256, hpke.HKDF_SHA384, hpke.HKDF_SHA512, hpke.SHAKE256)
}
AEADS = {aead.id: aead for aead in (hpke.AES_128_GCM, hpke.AES_256_GCM, hpke.CHACHA20_POLY1305)}
CURVES: dict[int, ec.EllipticCurve] = {0x10: ec.SECP256R1(), 0x11: ec.SECP384R1(), 0x12: ec.SECP521R1()}
BASE, PSK = 0, 1
HYBRID = 0x647A


def half(kem_id: int, secret: bytes) -> hpke.PrivateHalf:
    if kem_id == HYBRID:
        seeds = hashlib.shake_256(secret).digest(96)
        return hpke.HybridHalf(
            mlkem.MLKEM768PrivateKey.from_seed_bytes(seeds[:64]), x25519.X25519PrivateKey.from_private_bytes(seeds[64:])
        )
    match kem_id:
        case 0x20:
            return hpke.SoftwareHalf(x25519.X25519PrivateKey.from_private_bytes(secret))
        case 0x21:
            return hpke.SoftwareHalf(x448.X448PrivateKey.from_private_bytes(secret))
    return hpke.SoftwareHalf(ec.derive_private_key(int.from_bytes(secret, "big"), CURVES[kem_id]))


def opens(vector: dict[str, Any], kem: hpke.Kem) -> None:
    """All that the vector says of its first message: keys, shared secret, plaintext; and nothing once it is changed."""
    suite = hpke.Suite(kem, KDFS[vector["kdf_id"]], AEADS[vector["aead_id"]])
    private = half(vector["kem_id"], bytes.fromhex(vector["skRm"]))
    first = {name: bytes.fromhex(value) for name, value in vector["encryptions"][0].items()}
    enc, info = bytes.fromhex(vector["enc"]), bytes.fromhex(vector["info"])
    psk, psk_id = bytes.fromhex(vector.get("psk", "")), bytes.fromhex(vector.get("psk_id", ""))
    assert private.public.hex() == vector["pkRm"]
    assert kem.decapsulate(private, enc).hex() == vector["shared_secret"]
    assert suite.open(private, enc, first["ct"], info, first["aad"], psk, psk_id) == first["pt"]
    for changed in (
        {"info": info + b"x"},
        {"aad": first["aad"] + b"x"},
        {"ciphertext": first["ct"][:-1] + bytes([first["ct"][-1] ^ 1])},
    ):
        with pytest.raises(OpeningFailed):
            suite.open(
                private,
                enc,
                **{
                    "ciphertext": first["ct"],
                    "info": info,
                    "aad": first["aad"],
                    "psk": psk,
                    "psk_id": psk_id,
                    **changed,
                },
            )


def test_rfc_9180_in_base_and_psk_mode() -> None:
    """128 vectors; 48 of them in these modes with an AEAD (the rest are for sender keys and for export only)."""
    vectors = packaged("HPKE", "test-vectors.json")
    assert len(vectors) == 128
    ours = [one for one in vectors if one["mode"] in (BASE, PSK) and one["aead_id"] in AEADS]
    assert len(ours) == 48
    for vector in ours:
        opens(vector, KEMS[vector["kem_id"]])


def test_the_hybrid_and_the_one_stage_kdf_against_the_drafts_vectors() -> None:
    """Of draft-ietf-hpke-pq: both vectors of MLKEM768-X25519, one of them with SHAKE256."""
    vectors = [one for one in packaged("HPKE", "hpke-pq-test-vectors.json") if one["kem_id"] == HYBRID]
    assert [(one["kdf_id"], one["aead_id"]) for one in vectors] == [(1, 3), (0x11, 3)]
    for vector in vectors:
        opens(vector, hpke.MLKEM768_X25519)


def test_the_one_stage_key_schedule_is_that_of_the_edition_that_the_wire_format_names() -> None:
    """draft-ietf-hpke-pq-05, appendix A.12.1: MLKEM768-X25519, SHAKE256, ChaCha20Poly1305."""
    key, nonce = hpke.SHAKE256.schedule(
        b"HPKE" + bytes.fromhex("647a00110003"),
        bytes.fromhex("c3b302f7ad7e13ab4713facdd0d8058507133e966519acca3af01ab2d5c96549"),
        b"4f6465206f6e2061204772656369616e2055726e",
        psk=b"",
        psk_id=b"",
        key_bytes=32,
    )
    assert key.hex() == "946a26bbe80fcb3b39e15971fd7f4b41f05826073fcc015c69a5c4a430166920"
    assert nonce.hex() == "df9df51376022d86761ae77c"


def _pairs() -> list[tuple[hpke.Suite, theirs.Suite, hpke.PrivateHalf, Any]]:
    """What sealane uses, with the same suite of `cryptography`."""
    x = x25519.X25519PrivateKey.generate()
    p = ec.generate_private_key(ec.SECP256R1())
    lattice = mlkem.MLKEM768PrivateKey.generate()
    return [
        (
            hpke.Suite(hpke.X25519, hpke.HKDF_SHA256, hpke.CHACHA20_POLY1305),
            theirs.Suite(theirs.KEM.X25519, theirs.KDF.HKDF_SHA256, theirs.AEAD.CHACHA20_POLY1305),
            hpke.SoftwareHalf(x),
            x,
        ),
        (
            hpke.Suite(hpke.P256, hpke.HKDF_SHA256, hpke.AES_256_GCM),
            theirs.Suite(theirs.KEM.P256, theirs.KDF.HKDF_SHA256, theirs.AEAD.AES_256_GCM),
            hpke.SoftwareHalf(p),
            p,
        ),
        (
            hpke.Suite(hpke.MLKEM768_X25519, hpke.SHAKE256, hpke.AES_256_GCM),
            theirs.Suite(theirs.KEM.MLKEM768_X25519, theirs.KDF.SHAKE256, theirs.AEAD.AES_256_GCM),
            hpke.HybridHalf(lattice, x),
            theirs.MLKEM768X25519PrivateKey(lattice, x),
        ),
    ]


@pytest.mark.parametrize("number", range(3))
def test_an_independent_implementation_opens_ours_and_we_open_its(number: int) -> None:
    suite, other, private, key = _pairs()[number]
    encapsulated, ciphertext = suite.seal(private.public, b"from here", b"info")
    assert other.decrypt(encapsulated + ciphertext, key, b"info") == b"from here"
    made = other.encrypt(b"from there", key.public_key(), b"info")
    cut = len(encapsulated)
    assert suite.open(private, made[:cut], made[cut:], b"info") == b"from there"


@pytest.mark.parametrize("number", range(3))
@pytest.mark.parametrize("size", [0, 1, 31, 32, 33, 65, 1119, 1120, 1121])
def test_an_encapsulated_key_of_any_length_opens_nothing_but_never_breaks(number: int, size: int) -> None:
    suite, _, private, _ = _pairs()[number]
    with pytest.raises(OpeningFailed):
        suite.open(private, bytes(size), bytes(48), b"info")
