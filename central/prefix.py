"""How far a lane's chain is unbroken, which is what a receipt confirms. Values only: the store brings the rows."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import NewType

Epoch = NewType("Epoch", str)
"""An epoch's 64 bits in hex: SQL integers are signed."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a lane's unbroken chain: everything up to `up_to` is there or declared given up.

    up_to 0: not even the epoch's first message is there. broken: the next number is there, but does not go on from
    `digest`. missing: the next number is not there, though a later one is that is never sent ahead of its turn.
    """

    lane: str
    epoch: Epoch
    up_to: int
    digest: bytes | None
    broken: bool = False
    missing: bool = False


@dataclass(frozen=True, slots=True)
class Link:
    """One link of a chain: the message `seq` goes on from `prev` and is called `digest`.

    early: it declares a gap, so it may be here before messages of a lower number are sent.
    """

    seq: int
    prev: bytes | None
    digest: bytes
    early: bool = False


def walk(head: Head, links: Iterable[Link], gap_over: Callable[[int], Link | None]) -> Head:
    """How far the chain goes on from `head`. Pure. `links` in order of seq; `gap_over(seq)` gives the end of a declared
    gap that covers seq."""
    up_to, digest = head.up_to, head.digest
    links = iter(links)
    for link in links:
        while link.seq > up_to + 1:
            gap = gap_over(up_to + 1)
            if gap is None:
                missing = not link.early or any(not later.early for later in links)
                return replace(head, up_to=up_to, digest=digest, missing=missing)
            up_to, digest = gap.seq, gap.digest
        if link.seq <= up_to:
            continue
        if link.prev != digest:
            return replace(head, up_to=up_to, digest=digest, broken=True)
        up_to, digest = link.seq, link.digest
    return replace(head, up_to=up_to, digest=digest)
