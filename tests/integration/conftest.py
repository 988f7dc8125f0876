"""Integration tests run against real peers: a mosquitto with TLS and access list, ptys, processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.lane_site import Site


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    here = Path(__file__).parent
    for item in items:
        if here in item.path.parents:
            item.add_marker(pytest.mark.integration)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    """A site whose broker runs."""
    made = Site(tmp_path / "site")
    made.broker.start()
    yield made
    made.broker.stop()
