import sys
from pathlib import Path

import pytest

from edge.errors import KeyFileExposed, KeyFileWrongKind, TokenUnavailable
from edge.seal import custody, keys
from edge.seal.keys import Purpose
from tests.sealing import recipient_key, signing_key

NAMED = "pkcs11:token=box;object=lane?module-path=/usr/lib/softhsm/libsofthsm2.so\n"


def test_a_key_in_a_file_is_used_from_there(tmp_path: Path) -> None:
    keys.save(signing_key(), tmp_path / "lane")
    keys.save(recipient_key(), tmp_path / "owner", b"secret")
    assert custody.signer(tmp_path / "lane").public == signing_key().public
    assert custody.opener(tmp_path / "owner", b"secret").public == recipient_key().public
    with pytest.raises(KeyFileWrongKind):
        custody.signer(tmp_path / "owner", b"secret")


def test_a_token_without_the_package_for_it_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lane"
    path.touch(0o600)
    path.write_text(NAMED)
    monkeypatch.delitem(sys.modules, "edge.seal.token", raising=False)
    monkeypatch.delattr("edge.seal.token", raising=False)
    monkeypatch.setitem(sys.modules, "pkcs11", None)
    for ask in (custody.signer, custody.opener):
        with pytest.raises(TokenUnavailable, match=r"locks/hsm\.txt"):
            ask(path)
    with pytest.raises(TokenUnavailable):
        custody.make_in_token(tmp_path / "new", NAMED, Purpose.SIGNING, signing_key().public.type)


def test_a_file_that_others_can_change_or_read_names_no_key(tmp_path: Path) -> None:
    path = tmp_path / "lane"
    path.write_text(NAMED)
    path.chmod(0o644)
    with pytest.raises(KeyFileExposed):
        custody.signer(path)
