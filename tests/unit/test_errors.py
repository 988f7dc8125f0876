import re
from pathlib import Path

import pytest

from edge.errors import ConfigMissing, SealaneError, catalogue, clean, index

DOCS = Path(__file__).parents[2] / "docs" / "errors.md"


def test_every_error_has_its_own_code_and_a_hint() -> None:
    leaves = list(catalogue())
    assert len({leaf.code for leaf in leaves}) == len(leaves)
    for leaf in leaves:
        assert re.fullmatch(r"[A-Z]{2,6}-\d{2}", leaf.code), leaf
        assert leaf.hint != SealaneError.hint, leaf
        assert leaf.hint.endswith("."), leaf


def test_the_error_index_for_people_is_complete_and_current() -> None:
    assert DOCS.read_text() == index(), "run `make docs`"


def test_an_error_in_one_line_names_its_code() -> None:
    assert str(ConfigMissing("no lane.toml")) == "CFG-01 no lane.toml"


@pytest.mark.parametrize(
    ("peer", "cleaned"),
    [("plain", "plain"), ("two\nlines\x1b[31m", "two?lines?[31m"), ("é" * 3, "???"), ("x" * 200, "x" * 117 + "...")],
)
def test_text_from_a_peer_is_made_one_printable_bounded_line(peer: str, cleaned: str) -> None:
    assert clean(peer) == cleaned
