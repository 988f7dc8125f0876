"""What the owner of an authority is told: by `status` of what is signed and drafted, and by warnings of what ends."""

import datetime
from pathlib import Path

import pytest

from central.authority_status import shortages
from central.certificates import Authority, make_key
from central.repository import Repository
from edge.errors import AuthorityInvalid
from tests.sealing import recipient_key, signing_key
from tests.unit.test_authority import authority, request_of

EPOCH, OTHER_EPOCH = "00000000000000ab", "00000000000000ac"


@pytest.fixture(autouse=True)
def narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """An authority with a policy: two readers, a collector, a lane. Public keys are beside it."""
    folder = tmp_path / "authority"
    authority("init", folder, "--no-passphrase")
    for name in ("owner", "escrow", "third"):
        (tmp_path / f"{name}.pub").write_text(recipient_key(name=name).public.pem())
    (tmp_path / "collector.pub").write_text(signing_key(name="collector").public.pem())
    for name in ("owner", "escrow"):
        authority("add-recipient", folder, tmp_path / f"{name}.pub", "--note", name)
    authority("add-collector", folder, tmp_path / "collector.pub")
    request, fingerprint = request_of("lane-1", tmp_path)
    authority("add-lane", folder, request, "--fingerprint", fingerprint, "--new-epoch", EPOCH)
    authority("sign", folder)
    return folder


def below(shown: str, fingerprint: str) -> list[str]:
    """The lines that `status` shows below a fingerprint, up to the next row."""
    _, _, after = shown.partition(fingerprint)
    lines = after.splitlines()[1:]
    return [line.strip() for line in lines[: next(n for n, line in enumerate(lines) if line[:4].strip() or not line)]]


def told(folder: Path) -> list[str]:
    return list(shortages(Repository(folder), datetime.datetime.now(datetime.UTC)))


def test_status_marks_as_draft_what_is_not_signed_and_nothing_once_it_is(site: Path) -> None:
    owner, third, collector = (
        recipient_key(name="owner").public, recipient_key(name="third").public, signing_key(name="collector").public,
    )  # fmt: skip
    assert "draft" not in authority("status", site)
    authority("add-recipient", site, site.parent / "third.pub", "--until", "2099-01-01T10:22:15")
    authority("add-recipient", site, site.parent / "owner.pub", "--until", "2099-02-01")
    authority("revoke", site, collector.fingerprint, "--at", "2026-01-02T03:04:05")
    authority("rotate-lane", site, "lane-1")
    authority("announce-epoch", site, "lane-1", OTHER_EPOCH)
    authority("announce-epoch", site, "lane-1", EPOCH, "--take-back")
    authority("allow-picture", site, "true")
    shown = authority("status", site)
    assert below(shown, third.fingerprint) == ["draft: new", "until 2099-01-01 10:22:15"]
    assert below(shown, owner.fingerprint) == ["draft: until 2099-02-01"]
    assert below(shown, collector.fingerprint) == ["draft: revoked from 2026-01-02 03:04:05"]
    lines = [line.strip() for line in shown.splitlines()]
    for line in (
        "aim --picture forbidden", "draft: aim --picture allowed", f"draft: no epoch {EPOCH}",
        f"draft: epoch {OTHER_EPOCH} announced", "draft: rotation asked for",
    ):  # fmt: skip
        assert line in lines
    authority("sign", site)
    shown = authority("status", site)
    assert "draft" not in shown.partition("now the policy")[0]
    assert below(shown, collector.fingerprint) == ["revoked from 2026-01-02 03:04:05"]
    assert f"epoch {OTHER_EPOCH} announced" in shown
    assert "rotation asked for" in shown


def test_a_key_that_only_the_draft_lacks_is_shown_until_that_is_signed(site: Path) -> None:
    collector = signing_key(name="collector").public.fingerprint
    authority("revoke", site, collector)
    authority("remove", site, collector)
    assert below(authority("status", site), collector)[-1] == "draft: taken out"
    authority("sign", site)
    assert collector not in authority("status", site)


def test_a_revocation_of_a_key_taken_out_before_is_shown_as_drafted(site: Path) -> None:
    owner = recipient_key(name="owner").public.fingerprint
    authority("add-recipient", site, site.parent / "owner.pub", "--until", "2026-01-01")
    authority("remove", site, owner)
    authority("sign", site, "--force")
    authority("revoke", site, owner, "--at", "2026-02-01")
    assert below(authority("status", site), owner) == ["draft: revoked from 2026-02-01"]


def test_a_certificate_that_waits_to_be_signed_is_a_difference_too(site: Path) -> None:
    authority("renew", site, "--days", "4000")
    assert "the draft differs" in authority("status", site)


def test_who_signs_hears_from_when_on_there_are_too_few_readers(site: Path) -> None:
    soon = (datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=9)).strftime("%Y-%m-%d")
    assert told(site) == []
    authority("add-recipient", site, site.parent / "escrow.pub", "--until", soon)
    (drafted,) = told(site)
    assert drafted.startswith(f"from {soon} on the draft, which would hold until")
    shown = authority("sign", site)
    assert f"from {soon} on the policy" in shown
    assert "has 1 of 2 readers" in shown
    authority("add-recipient", site, site.parent / "third.pub", "--since", soon)
    authority("sign", site)
    assert told(site) == []


def test_who_signs_hears_for_whom_lanes_seal_once_nobody_may_read(site: Path) -> None:
    days = [datetime.datetime.now(datetime.UTC) + datetime.timedelta(days=days) for days in (9, 10)]
    revoked = {name: f"{day:%Y-%m-%d}" for name, day in zip(("owner", "escrow"), days, strict=True)}
    for name, day in revoked.items():
        authority("revoke", site, recipient_key(name=name).public.fingerprint, "--at", day)
    one, none = told(site)
    assert one.startswith(f"from {revoked['owner']} on the draft")
    assert "has 1 of 2 readers: name another" in one
    assert none.startswith(f"from {revoked['escrow']} on the draft")
    assert "has 0 of 2 readers: name one, or lanes go on sealing for whoever held last, revoked or not" in none


def test_lanes_whose_certificates_end_soon_are_named_until_they_are_renewed(site: Path) -> None:
    def shown(*words: str) -> str:
        return authority(*words, site)

    def issue(lane: str, days: int) -> None:
        certificate = Authority.open_or_make(site / "tls").issue(lane, make_key().public_key(), days=days)
        (site / "certificates" / f"{lane}.pem").write_bytes(certificate)

    commands = ("status",), ("sign", "--fresh"), ("sign",)
    issue("lane-1", 61)
    assert not any("TLS certificate" in shown(*words) for words in commands)
    issue("lane-1", 59)
    issue("gone", 10)
    assert all("of lanes end (lane-1): run `sealane authority renew`" in shown(*words) for words in commands)
    assert "lane-1: a new certificate" in shown("renew")
    assert not any("TLS certificate" in shown(*words) for words in commands)


def test_a_machine_with_the_online_key_alone_needs_neither_certificates_nor_draft(site: Path, tmp_path: Path) -> None:
    (site / "repository" / "metadata").rename(tmp_path / "metadata")
    (tmp_path / "online" / "repository").mkdir(parents=True)
    (tmp_path / "metadata").rename(tmp_path / "online" / "repository" / "metadata")
    key = site / "keys" / "online"
    assert "signed as fresh" in authority("sign", tmp_path / "online", "--fresh", "--online-key", key)


def test_ends_after_the_policys_own_are_nobodys_worry_yet(site: Path) -> None:
    for name in ("owner", "escrow"):
        authority("add-recipient", site, site.parent / f"{name}.pub", "--until", "2099-01-01")
    assert told(site) == []


def test_who_revokes_the_only_collector_hears_so(site: Path) -> None:
    authority("revoke", site, signing_key(name="collector").public.fingerprint)
    assert "0 of 1 collectors" in authority("status", site)
    assert "now the policy" in authority("sign", site)


@pytest.mark.parametrize(
    "words",
    [("--until", "2026-01-01"), ("--since", "2099-01-02", "--until", "2099-01-02"), ("--since", "2100-01-01")],
)
def test_a_key_that_would_never_count_is_not_drafted(site: Path, words: tuple[str, ...]) -> None:
    authority("add-recipient", site, site.parent / "owner.pub", "--until", "2099-01-01")
    name = "owner" if words[0] == "--since" else "third"
    before = Repository(site).draft
    with pytest.raises(AuthorityInvalid, match=r"never count|before it begins"):
        authority("add-recipient", site, site.parent / f"{name}.pub", *words)
    assert Repository(site).draft == before


def test_a_key_that_is_there_can_be_ended_at_any_time_that_is_past(site: Path) -> None:
    for since in ("2026-02-01", "2099-01-01"):
        authority("add-recipient", site, site.parent / "third.pub", "--since", since)
        authority("add-recipient", site, site.parent / "third.pub", "--until", "2026-01-01")
        authority("remove", site, recipient_key(name="third").public.fingerprint)


def test_what_a_terminal_would_obey_in_a_note_is_shown_as_question_marks(site: Path) -> None:
    repository = Repository(site)
    one, *others = repository.draft.recipients
    repository.edit(recipients=(one.model_copy(update={"note": "\x1b[2Jo\u00dfner\n"}), *others))
    shown = authority("status", site)
    assert "\x1b" not in shown
    assert "draft: ?[2Jo\u00dfner?" in shown
    authority("sign", site)
    assert "?[2Jo\u00dfner?" in authority("status", site)


@pytest.mark.parametrize("length", [60, 200])
def test_a_long_note_takes_no_room_from_who_a_key_is_of(site: Path, length: int) -> None:
    authority("add-recipient", site, site.parent / "owner.pub", "--note", "n" * length)
    shown = authority("status", site)
    for role, name in (("recipient", "escrow"), ("collector", "collector"), ("lane", "lane-1")):
        of = signing_key if role != "recipient" else recipient_key
        key = of().public if role == "lane" else of(name=name).public
        assert any(line.split()[0] == role and key.fingerprint in line for line in shown.splitlines() if line.strip())
    assert shown.count("n" * 10) >= length // 20
