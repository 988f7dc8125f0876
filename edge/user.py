"""Root's work in a folder of another user, done as that user."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def as_owner_of(folder: Path) -> Iterator[None]:
    """While it lasts, root may do no more than whoever can put a link in the place of `folder` or of what is in it.

    Without effect for anybody but root. What only root may read must be read before.
    """
    owner = _owner(folder) if os.geteuid() == 0 else None
    if owner is None:
        yield
        return
    group, groups = os.getegid(), os.getgroups()
    os.setgroups([])
    os.setegid(owner.st_gid)
    os.seteuid(owner.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)
        os.setgroups(groups)


def _owner(folder: Path) -> os.stat_result | None:
    """Of the deepest part of the path, links not followed, that is not root's; None if all are root's."""
    for part in (folder.absolute(), *folder.absolute().parents):
        with suppress(OSError):
            if (found := part.lstat()).st_uid != 0:
                return found
    with suppress(OSError):
        if (found := folder.stat()).st_uid != 0:
            return found
    return None
