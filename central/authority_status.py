"""What an authority's owner is told of it: what is in force, what only the draft says, and what ends too soon."""

import datetime
from collections.abc import Iterable, Iterator, Mapping

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from central.enrolments import Enrolments
from central.repository import LEAST_RECIPIENTS, TARGETS_DAYS, Repository
from central.roots import ROLES, changes
from edge.policy import Collector, Lane, LaneKey, Recipient, Terms
from edge.seal.keys import fingerprint

SOON = datetime.timedelta(days=60)
"""Before the policy, the root or a lane's TLS certificate ends, `sign` and `status` say so."""
MOST_NAMED = 5
DRAFT = "draft: "
ROLE_ORDER = ("recipient", "collector", "lane")
NO_LANE = Lane(keys=())

Listed = Recipient | Collector | LaneKey


def show(repository: Repository, now: datetime.datetime) -> None:
    """`sealane authority status`. What is not in force yet is marked, with a word and a colour."""
    console = Console(highlight=False)
    root, pending, policy = repository.roots.current.signed, repository.roots.pending, repository.policy
    console.print(
        f"root {root.version}: {len(root.roles['root'].keyids)} keys, {root.roles['root'].threshold} must sign, "
        f"until {root.expires:%Y-%m-%d}" + (", a new one is pending" if pending is not None else "")
    )
    if pending is not None:
        for line in changes(root, pending.signed):
            console.print(f"  {line}")
    if repository.fresh_until is not None:
        console.print(f"fresh until {repository.fresh_until:%Y-%m-%d}: sign again before")
    if policy is None:
        console.print("no policy is signed yet")
    else:
        until = f", until {repository.policy_until:%Y-%m-%d}" if repository.policy_until is not None else ""
        console.print(f"policy {policy.version} of {policy.issued:%Y-%m-%d}{until}")
    signed, draft = policy or Terms(), repository.draft
    console.print(_coloured(_marked(_settings(signed), _settings(draft))))
    told = Column("fingerprint (times are UTC)", no_wrap=True)
    table = Table(Column("role", no_wrap=True), Column("name", overflow="fold"), told, box=None)
    for role, kid in dict.fromkeys((ours, kid) for tufs, ours in ROLES.items() for kid in root.roles[tufs].keyids):
        table.add_row(role, "", fingerprint(bytes.fromhex(kid)))
    for role, names, kid, said in _keys(signed, draft, now):
        table.add_row(role, _coloured(names), _coloured([fingerprint(bytes.fromhex(kid)), *said]))
    for name in signed.lanes | draft.lanes:
        if said := [*_marked(*(_beside_keys(terms.lanes.get(name, NO_LANE)) for terms in (signed, draft)))]:
            table.add_row("lane", name, _coloured(said))
    console.print(table)
    if repository.has_unsigned:
        console.print("[yellow]the draft differs from what is signed, and counts after `sealane authority sign`[/]")


def endings(repository: Repository, now: datetime.datetime) -> Iterator[str]:
    """What ends soon, and the key which signs freshness can't prolong."""
    until = repository.policy_until
    if until is not None and until < now + SOON:
        yield f"the policy itself ends on {until:%Y-%m-%d}: run `sealane authority sign` before, with the targets key"
    if repository.roots.until < now + SOON:
        yield (
            f"the root ends on {repository.roots.until:%Y-%m-%d}: run `sealane authority rotate-root` before, and have "
            "it signed with the root keys"
        )
    yield from _ending_certificates(repository, now)


def shortages(repository: Repository, now: datetime.datetime) -> Iterator[str]:
    """Where readers or collectors are too few before the policy itself ends: till then nothing else calls the owner."""
    policy, until = repository.policy, repository.policy_until
    if policy is not None and until is not None:
        yield from _shortages(f"the policy, which holds until {until:%Y-%m-%d},", policy, now, until)
    if repository.has_unsigned:
        until = now + datetime.timedelta(days=TARGETS_DAYS)
        yield from _shortages(f"the draft, which would hold until {until:%Y-%m-%d},", repository.draft, now, until)


def listed(terms: Terms) -> Iterator[tuple[str, str, Listed]]:
    """Every key that they name, with its role and a name for people."""
    yield from (("recipient", one.note, one) for one in terms.recipients)
    yield from (("collector", one.note, one) for one in terms.collectors)
    yield from (("lane", name, one) for name, lane in terms.lanes.items() for one in lane.keys)


def dates(one: Listed) -> Mapping[str, str]:
    """From and until when a key counts, as far as that is said."""
    return {word: moment(at) for word, at in (("from", one.since), ("until", one.until)) if at is not None}


def moment(at: datetime.datetime) -> str:
    """A time as people give it: the day (UTC), and what the clock says unless it is midnight."""
    at = at.astimezone(datetime.UTC)
    return f"{at:%Y-%m-%d}" if at.time() == datetime.time() else f"{at:%Y-%m-%d %H:%M:%S}"


def _ending_certificates(repository: Repository, now: datetime.datetime) -> Iterator[str]:
    """A line for the lanes whose certificates end soon; a machine of the online key has none of them, and no draft."""
    enrolments = Enrolments(repository)
    names = (path.stem for path in (repository.directory / "certificates").glob("*.pem"))
    ends = {name: at for name in names if (at := enrolments.certified_until(name)) is not None and at < now + SOON}
    draft = repository.draft if ends else Terms()
    counting = {name for name, lane in draft.lanes.items() if not all(draft.over(one, now) for one in lane.keys)}
    if lanes := sorted(ends.keys() & counting, key=lambda name: (ends[name], name)):
        named = ", ".join(lanes[:MOST_NAMED]) + (f" and {len(lanes) - MOST_NAMED} more" if lanes[MOST_NAMED:] else "")
        yield (
            f"from {ends[lanes[0]]:%Y-%m-%d} on the TLS certificates of lanes end ({named}): run `sealane authority "
            "renew` before, sign and publish; with one that has ended a lane can't ask the broker for another"
        )


def _keys(signed: Terms, draft: Terms, now: datetime.datetime) -> Iterator[tuple[str, list[str], str, list[str]]]:
    """Role, names, fingerprint of each key of the two, and what they say of it."""
    old, new = (
        {(role, one.key.kid.hex(), name if role == "lane" else ""): (name, one) for role, name, one in listed(terms)}
        for terms in (signed, draft)
    )
    ended, ends = _revoked(signed), _revoked(draft)

    def said(revoked: Mapping[str, str], kid: str, one: Listed) -> Mapping[str, str]:
        return {**dates(one), **({"revoked from": revoked[kid]} if kid in revoked else {})}

    for key in sorted(old | new, key=lambda key: (ROLE_ORDER.index(key[0]), key[2])):
        role, kid, _ = key
        (name, before), (renamed, after) = old.get(key) or new[key], new.get(key) or old[key]
        told = [
            *([] if key in old else [f"{DRAFT}new"]),
            *_marked(said(ended, kid, before), said(ends, kid, after)),
            *([] if key in new else [f"{DRAFT}taken out"]),
            *([] if before.holds(now) else ["not now"]),
        ]
        yield role, [name, *([] if renamed == name else [f"{DRAFT}{renamed}"])], kid, told
    known = {kid for _, kid, _ in old | new}
    for kid in ends.keys() - ended.keys() - known:
        yield "", ["taken out"], kid, [f"{DRAFT}revoked from {ends[kid]}"]


def _revoked(terms: Terms) -> Mapping[str, str]:
    return {one.kid: moment(one.at) for one in sorted(terms.revoked, key=lambda one: one.at, reverse=True)}


def _settings(terms: Terms) -> Mapping[str, str]:
    return {
        "aim --picture": "allowed" if terms.aim_picture else "forbidden",
        "model": "shipped" if terms.model is None else terms.model.name,
    }


def _beside_keys(lane: Lane) -> Mapping[str, str]:
    return ({"rotation": "asked for"} if lane.rotate else {}) | {f"epoch {epoch}": "announced" for epoch in lane.epochs}


def _marked(signed: Mapping[str, str], draft: Mapping[str, str]) -> Iterator[str]:
    """What is signed, and after it what the draft says otherwise."""
    for word in {**signed, **draft}:
        if word in signed:
            yield f"{word} {signed[word]}"
        if word not in draft:
            yield f"{DRAFT}no {word}"
        elif draft[word] != signed.get(word):
            yield f"{DRAFT}{word} {draft[word]}"


def _coloured(said: Iterable[str]) -> Text:
    """A line each, the draft's in yellow; what a terminal would obey in somebody's note is left out."""
    shown = ("".join(c if c.isprintable() else "?" for c in one) for one in said)
    return Text("\n").join(Text(one, style="yellow" if one.startswith(DRAFT) else "") for one in shown)


def _shortages(whose: str, terms: Terms, now: datetime.datetime, until: datetime.datetime) -> Iterator[str]:
    """From when on there are fewer readers, or collectors, than there must be; and again from when on even fewer."""
    nobody_reads = "name one, or lanes go on sealing for whoever held last, revoked or not: a record must have a reader"
    parts: tuple[tuple[str, tuple[Recipient | Collector, ...], int, str], ...] = (
        ("reader", terms.recipients, LEAST_RECIPIENTS, nobody_reads),
        ("collector", terms.collectors, 1, "name one, or no receipt counts and lanes keep all records"),
    )
    for role, known, least, none_left in parts:
        fewest = least
        kids = {one.key.kid.hex() for one in known}
        ends = {one.until for one in known} | {one.at for one in terms.revoked if one.kid in kids}
        for at in (now, *sorted(at for at in ends if at is not None and now < at < until)):
            count = len({one.key.kid for one in known if one.holds(at) and not terms.revokes(one.key, at)})
            if count < fewest:
                fewest = count
                when = "now" if at == now else f"from {moment(at)} on"
                why = "name another, or one lost key loses every record" if count else none_left
                yield f"{when} {whose} has {count} of {least} {role}s: {why}"
