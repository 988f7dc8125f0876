"""Where private keys are kept: a file holds the key, or one line that names a key in a PKCS#11 token.

Whoever signs or opens asks here with the path from the configuration; which of the two it is, the file says.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from edge.errors import TokenUnavailable
from edge.seal import keys
from edge.seal.keys import KeyType, Purpose
from edge.seal.opener import FileOpener, Opener
from edge.seal.signer import FileSigner, Signer


def signer(path: Path, passphrase: bytes | None = None) -> Signer:
    """Who signs with the key at `path`. `passphrase`: of an encrypted file, or the token's PIN if the file names none.

    Raises what `keys.load_private` and `token.TokenSigner` raise.
    """
    text = keys.read(path, private=True)
    if not text.startswith("pkcs11:"):
        return FileSigner(keys.load_private(path, Purpose.SIGNING, passphrase))
    with _hsm_extra():
        from edge.seal import token
    return token.TokenSigner(token.parse_uri(text), passphrase)


def opener(path: Path, passphrase: bytes | None = None) -> Opener:
    """Who opens with the key at `path`; otherwise as `signer`."""
    text = keys.read(path, private=True)
    if not text.startswith("pkcs11:"):
        return FileOpener(keys.load_private(path, Purpose.RECIPIENT, passphrase))
    with _hsm_extra():
        from edge.seal import token
    return token.TokenOpener(token.parse_uri(text), passphrase)


def make_in_token(path: Path, uri: str, purpose: Purpose, kind: KeyType, pin: bytes | None = None) -> Path:
    """Make a key in a token; write the file at `path` that names it and `path`.pub, whose path is returned.

    Raises what `token.make_key`, `token.parse_uri` and `keys.write_pair` raise.
    """
    with _hsm_extra():
        from edge.seal import token
    wanted = token.parse_uri(uri)
    keys.check_place(path)  # a key that no file names would be in the way of the next attempt
    return keys.write_pair(path, f"{uri.strip()}\n", token.make_key(wanted, purpose, kind, pin))


@contextmanager
def _hsm_extra() -> Iterator[None]:
    try:
        yield
    except ImportError as error:
        needed = "pip install --require-hashes -r locks/hsm.txt, in the folder of sealane"
        raise TokenUnavailable(f"python-pkcs11 is not installed: {needed}") from error
