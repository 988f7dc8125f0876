"""The other side of test_seal_cwt: the package cwt, in its own environment, told what to do by JSON on stdin.

`open`: verify and open a message with cwt alone. `make`: make one with cwt alone. Bytes are hex.
"""

import json
import sys
from typing import Any

import cbor2
from cwt import COSE, COSEKey, Recipient


def key(pem: str, alg: int, kid: str) -> Any:
    opens = alg > 0 and "PRIVATE" in pem
    return COSEKey.from_pem(pem, alg=alg, kid=bytes.fromhex(kid), key_ops=["deriveBits"] if opens else None)


def open_message(asked: dict[str, Any]) -> dict[str, Any]:
    data = bytes.fromhex(asked["data"])
    signer = key(asked["signer"], asked["signer_alg"], asked["signer_kid"])
    protected, _, payload = COSE.new().decode_with_headers(data, signer)
    outer = cbor2.loads(data).value[0]
    recipient = key(asked["recipient"], asked["recipient_alg"], asked["recipient_kid"])
    plaintext = COSE.new().decode(payload, recipient, external_aad=outer)
    return {"plaintext": plaintext, "header": protected[-65537], "kid": protected[4]}


def make_message(asked: dict[str, Any]) -> dict[str, Any]:
    signer = key(asked["signer"], asked["signer_alg"], asked["signer_kid"])
    header = {
        int(name): bytes.fromhex(value[1:]) if str(value)[:1] == "h" else value for name, value in asked["header"]
    }
    outer = {1: signer.alg, 2: [-65537], 3: 96, 4: signer.kid, -65537: header}
    recipient = Recipient.new(
        protected={1: asked["recipient_alg"], 4: bytes.fromhex(asked["recipient_kid"])},
        recipient_key=key(asked["recipient"], asked["recipient_alg"], asked["recipient_kid"]),
    )
    content_key = COSEKey.generate_symmetric_key(alg="A256GCM")
    inner = COSE.new().encode_and_encrypt(
        bytes.fromhex(asked["plaintext"]),
        content_key,
        protected={1: 3},
        unprotected={5: content_key.generate_nonce()},
        recipients=[recipient],
        external_aad=cbor2.dumps(outer),
    )
    return {"data": COSE.new().encode_and_sign(inner, signer, protected=outer, unprotected={})}


if __name__ == "__main__":
    request = json.load(sys.stdin)
    json.dump({"open": open_message, "make": make_message}[request["do"]](request), sys.stdout, default=bytes.hex)
