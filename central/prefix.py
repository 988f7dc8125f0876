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
    """One link of a chain: the message `seq` goes on from `prev` and is called `digest`."""

    seq: int
    prev: bytes | None
    digest: bytes


def walk(
    head: Head, links: Iterable[Link], gap_over: Callable[[int], Link | None], sent_beyond: Callable[[int], bool]
) -> Head:
    """How far the chain goes on from `head`. Pure. `links` in order of seq; `gap_over(seq)` gives the end of a declared
    gap that covers seq; `sent_beyond(seq)` says whether a message beyond seq is there that is never sent ahead of its
    turn."""
    up_to, digest = head.up_to, head.digest
    for link in links:
        while link.seq > up_to + 1:
            gap = gap_over(up_to + 1)
            if gap is None:
                return replace(head, up_to=up_to, digest=digest, missing=sent_beyond(up_to))
            up_to, digest = gap.seq, gap.digest
        if link.seq <= up_to:
            continue
        if link.prev != digest:
            return replace(head, up_to=up_to, digest=digest, broken=True)
        up_to, digest = link.seq, link.digest
    return replace(head, up_to=up_to, digest=digest)
