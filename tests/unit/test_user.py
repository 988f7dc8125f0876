"""Root's work in another user's folder."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from edge.user import as_owner_of

USER, GROUP = 64321, 64322


@pytest.fixture
def folder() -> Iterator[Path]:
    """One of another user, which everybody may come to."""
    if os.geteuid() != 0:
        pytest.skip("only root works as another user")
    with tempfile.TemporaryDirectory() as made:
        Path(made).chmod(0o755)
        found = Path(made) / "theirs"
        found.mkdir()
        os.chown(found, USER, GROUP)
        yield found


def who() -> tuple[int, int, list[int]]:
    return os.geteuid(), os.getegid(), os.getgroups()


def test_root_is_the_folders_owner_without_any_groups_and_root_again_whatever_happens(folder: Path) -> None:
    before = who()
    with as_owner_of(folder):
        assert who() == (USER, GROUP, [])
        (folder / "made").touch()
    assert who() == before
    with pytest.raises(PermissionError), as_owner_of(folder):
        (folder.parent / "roots").touch()
    assert who() == before
    assert (folder / "made").stat().st_uid == USER
    with as_owner_of(folder.parent):
        assert who() == before


@pytest.mark.parametrize("name", ["not there yet", "not/there/yet", "link", "link/below", "../shortcut"])
def test_whatever_a_user_can_put_a_link_in_the_place_of_is_that_users(folder: Path, name: str) -> None:
    (roots := folder.parent / "roots").mkdir()
    (roots / "below").mkdir()
    (folder / "link").symlink_to(roots)
    os.chown(folder / "link", USER, GROUP, follow_symlinks=False)
    (folder.parent / "shortcut").symlink_to(folder)
    with as_owner_of(folder.parent / name.removeprefix("../") if ".." in name else folder / name):
        assert os.geteuid() == USER
