"""What the fuzzers ever found worth keeping goes through the parsers again: nothing but our own errors comes out."""

from contextlib import suppress

import pytest

from edge.errors import SealaneError
from tests.campaign import fuzz


@pytest.mark.parametrize("target", fuzz.TARGETS)
def test_what_was_kept_breaks_no_parser(target: str) -> None:
    parse, inputs = fuzz.TARGETS[target](), fuzz.kept(target)
    assert inputs
    for data in inputs:
        with suppress(SealaneError):
            parse(data)
