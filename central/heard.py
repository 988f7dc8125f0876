"""What an audit judges: the messages of a collector's store, or of a capture."""

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from heapq import merge
from pathlib import Path

from central.lanes import LEAVES
from central.prefix import Epoch
from central.store import Store, link_of
from edge.errors import CaptureMalformed, MessageForked
from edge.mqtt import split

MAX_LINE_BYTES = 128 * 1024
_MOMENT = re.compile(r"[0-9]{1,11}(\.[0-9]{1,9})?")


@dataclass(frozen=True, slots=True)
class Heard:
    """One message as it was stored or captured.

    received_ns: UTC, None if it is not known; kept_as: the epoch and number that a store has it under; line: of a
    capture.
    """

    lane: str
    sealed: bytes
    received_ns: int | None = None
    kept_as: tuple[Epoch, int] | None = None
    line: int = 0


def of_store(store: Store) -> Iterator[Heard]:
    """All messages of a store, each lane's epochs in the order in which they are linked, in each the numbers ascending.

    Beside those that it counts, those that it could not keep under their number since another one has it: an alarm says
    no more than the message that it was kept with.
    """
    forks: dict[tuple[str, Epoch], list[Heard]] = {}
    for alarm in store.alarms():
        if alarm.code == MessageForked.code and alarm.evidence is not None:
            kept = Heard(alarm.lane, alarm.evidence, alarm.at_ns, (alarm.epoch, alarm.seq))
            forks.setdefault((alarm.lane, alarm.epoch), []).append(kept)
    chains = store.chains()
    for lane in dict.fromkeys(lane for lane, _ in chains):
        for epoch in _linked(store, lane, [epoch for of, epoch in chains if of == lane]):
            beside = sorted(forks.pop((lane, epoch), []), key=_number)
            last = b""
            for heard in merge(_stored(store, lane, epoch), beside, key=_number):
                if heard.sealed != last:  # what contradicts a gap is both
                    yield heard
                last = heard.sealed
    for beside in forks.values():
        yield from beside


def _stored(store: Store, lane: str, epoch: Epoch) -> Iterator[Heard]:
    for message in store.messages(lane, epoch):
        yield Heard(lane, message.sealed, message.received_ns, (epoch, message.seq))


def _number(heard: Heard) -> int:
    return heard.kept_as[1] if heard.kept_as else 0


def of_capture(path: Path, tell: Callable[[str], object] = lambda said: None) -> Iterator[Heard]:
    """The messages in a file of lines `TOPIC HEX` or `UNIX-TIME TOPIC HEX`. CaptureMalformed, naming the line.

    mosquitto_sub -R -V 5 -q 1 -t 'lanes/v1/+/record' -t 'lanes/v1/+/checkpoint' -F '%U %t %x' makes one. Without times,
    all of it counts as received now. A last line that doesn't end is still being written, or never was: it is left out,
    and `tell` told.
    """
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES):
                number += 1
                rest = line
                while len(rest) == MAX_LINE_BYTES and not rest.endswith(b"\n"):
                    rest = file.readline(MAX_LINE_BYTES)  # far longer than a message may be: what is read of it says so
                if not rest.endswith(b"\n"):
                    tell(f"{path}, line {number} is cut off, and not judged")
                elif line.strip() and (heard := _captured(line, path, number)) is not None:
                    yield heard
    except OSError as error:
        raise CaptureMalformed(f"cannot read {path}: {error.strerror}") from error


def _captured(line: bytes, path: Path, number: int) -> Heard | None:
    """What a broker passes on may be anything, also an empty message or a topic with blanks: that is for `admit`."""
    before, _, payload = line.decode(errors="replace").rstrip("\r\n").rpartition(" ")
    moment, _, rest = before.partition(" ")
    topic = rest if split(before) is None else before
    place = split(topic)
    try:
        received_ns = _nanoseconds(moment) if topic == rest else None
        sealed = bytes.fromhex(payload[: len(payload) & ~1] if len(line) == MAX_LINE_BYTES else payload)
    except ValueError as error:
        raise CaptureMalformed(f"{path}, line {number}: TOPIC HEX or UNIX-TIME TOPIC HEX is needed") from error
    return None if place is None or place[1] not in LEAVES else Heard(place[0], sealed, received_ns, line=number)


def _nanoseconds(moment: str) -> int:
    """ValueError unless it is Unix time in plain digits: a number with an exponent could take for ever."""
    if _MOMENT.fullmatch(moment) is None:
        raise ValueError("not a Unix time")
    return int(Decimal(moment) * 1_000_000_000)


def _linked(store: Store, lane: str, epochs: list[Epoch]) -> list[Epoch]:
    """The epochs of a lane, each after the one that it is linked to; those without a link first."""
    before: dict[Epoch, Epoch | None] = {}
    for epoch in epochs:
        first = next(store.messages(lane, epoch), None)
        link = None if first is None else link_of(first.sealed)
        before[epoch] = None if link is None else Epoch(f"{link.epoch:016x}")
    ordered: dict[Epoch, None] = {}
    for epoch in sorted(epochs, key=lambda epoch: before[epoch] is not None):
        run: dict[Epoch, None] = {}
        here: Epoch | None = epoch
        while here is not None and here in before and here not in ordered and here not in run:
            run[here] = None
            here = before[here]
        ordered |= dict.fromkeys(reversed(run))
    return list(ordered)
