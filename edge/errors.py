"""One error tree: every failure a person can meet has a stable code, a hint to act on, and says if a retry can help.

A leaf class is a code. `str(error)` is one line fit for a log: the code and what happened, never plate text, keys or
payloads. Adapters translate at the edge with `raise ... from`. The list for people is docs/errors.md.
"""

import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from pydantic import ValidationError


class SealaneError(Exception):
    """Root of the tree. `what` says what happened, in one line without secrets."""

    code: ClassVar[str] = "LANE-00"
    hint: str = "Run the command again with --verbose and read the line above this one."
    retryable: ClassVar[bool] = False

    def __init__(self, what: str) -> None:
        super().__init__(what)
        self.what = what

    def __str__(self) -> str:
        return f"{self.code} {self.what}"


def catalogue() -> Iterator[type[SealaneError]]:
    """Every error that has a code of its own, in the order of this file."""

    def walk(root: type[SealaneError]) -> Iterator[type[SealaneError]]:
        for child in root.__subclasses__():
            if "code" in vars(child):
                yield child
            yield from walk(child)

    yield from walk(SealaneError)


def index() -> str:
    """docs/errors.md: what each code means and what to do about it."""
    lines = [
        "# Error codes",
        "",
        "Every error names its code. A retryable one goes away by itself when its cause does; sealane keeps trying.",
        "",
        "| code | error | retried | what to do |",
        "|---|---|---|---|",
    ]
    for leaf in catalogue():
        name = re.sub(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", " ", leaf.__name__).lower()
        lines.append(f"| {leaf.code} | {name} | {'yes' if leaf.retryable else ''} | {leaf.hint.replace('|', '/')} |")
    return "\n".join(lines) + "\n"


def clean(peer_text: object, limit: int = 120) -> str:
    """Text from a peer (device, broker, file) made fit for a log: printable ASCII on one line, bounded."""
    text = "".join(c if " " <= c <= "~" else "?" for c in str(peer_text))
    return text if len(text) <= limit else text[: limit - 3] + "..."


def wrong_fields(error: "ValidationError", *, most: int = 5, between: str = "; ") -> str:
    """The first fields that are wrong and why, without what they hold."""
    items = error.errors(include_url=False, include_context=False, include_input=False)
    told = (
        f"{'.'.join(map(str, item['loc'])) or 'the whole'}: {clean(item['msg']).removeprefix('Value error, ')}"
        for item in items[:most]
    )
    return between.join(clean(what, 240) for what in told)


# --- configuration --------------------------------------------------------------------------------------------------


class ConfigError(SealaneError):
    """lane.toml, or what it names."""


class ConfigMissing(ConfigError):
    code = "CFG-01"
    hint = "Give the path with --config, or copy docs/lane.toml to /etc/sealane/lane.toml."


class ConfigNotToml(ConfigError):
    code = "CFG-02"
    hint = "The line and column above are where TOML stopped making sense; look for a missing quote or bracket."


class ConfigInvalid(ConfigError):
    code = "CFG-03"
    hint = "Each line above names a key and what it may hold; unknown keys are refused."


class DriverUnknown(ConfigError):
    code = "CFG-04"
    hint = "Use one of the drivers listed above, or install the package that brings yours."


class CommandUnavailable(ConfigError):
    code = "CFG-05"
    hint = "Install the part that brings this command, in the folder of sealane, for example: pip install '.[central]'."


class OptionMissing(ConfigError):
    code = "CFG-06"
    hint = "Give the options named above; --help says what each is, and which environment variables stand for them."


class LaneUnknown(ConfigError):
    code = "CFG-07"
    hint = "Give a lane that is enrolled, as it is written there: its name has small letters, digits and hyphens only."


# --- detector loop --------------------------------------------------------------------------------------------------


class LoopError(SealaneError):
    """The inductive loop detector and the serial line to it."""


class LoopPortMissing(LoopError):
    code = "LOOP-01"
    hint = "Check the cable and the name: ls -l /dev/serial/by-id. For a serial server: see if it answers on that port."
    retryable = True


class LoopPortForbidden(LoopError):
    code = "LOOP-02"
    hint = "The service's user must be in the group that owns the port, usually dialout; see ls -l on the port."


class LoopPortBusy(LoopError):
    code = "LOOP-03"
    hint = "Another process holds the port: fuser -v PORT names it. Often a modem manager or a second daemon."
    retryable = True


class LoopPortUnfit(LoopError):
    code = "LOOP-04"
    hint = "This port has no modem lines. Use a real serial port, or an RFC 2217 server that carries its lines."


class LoopGone(LoopError):
    code = "LOOP-05"
    hint = "The port or the connection to the serial server broke while in use; it is opened again once it is back."
    retryable = True


class LoopSilent(LoopError):
    code = "LOOP-06"
    hint = "Check power, A/B polarity, baud rate and parity, and the module's address against lane.toml."
    retryable = True


class LoopFrameCut(LoopError):
    code = "LOOP-07"
    hint = "Part of an answer came. Check the wiring and termination; behind a serial server, raise answer_timeout_ms."
    retryable = True


class LoopGarbage(LoopError):
    code = "LOOP-08"
    hint = "What came is no answer to the question. Check baud rate and parity, and that nobody else talks on this bus."
    retryable = True


class LoopChecksumWrong(LoopError):
    code = "LOOP-09"
    hint = "Bits flip on the line. Check termination, shield and ground, and that no other device has the same address."
    retryable = True


class LoopRefused(LoopError):
    code = "LOOP-10"
    hint = "The module has no such inputs: check profile, presence and fault inputs in lane.toml against its manual."
    retryable = True


class LoopForeign(LoopError):
    code = "LOOP-11"
    hint = "Another module answered: check the address in lane.toml and that each module on the bus has its own."
    retryable = True


# --- camera ---------------------------------------------------------------------------------------------------------


class CameraError(SealaneError):
    """The camera, its stream and its frames."""


class CameraFrameError(CameraError):
    """One frame was lost; the next may be fine."""

    retryable = True


class FrameMemoryRefused(CameraError):
    code = "CAM-01"
    hint = "Lower ring_frames or ring_frame_kib in lane.toml, or raise the service's LimitMEMLOCK."


class CameraSilent(CameraError):
    code = "CAM-02"
    hint = "The connection stands and no picture comes: look at the camera's own page, its power and its network cable."
    retryable = True


class FrameDamaged(CameraFrameError):
    code = "CAM-03"
    hint = "Now and then is harmless; many mean a bad network cable, a full link or a camera short of power."


class FrameTooLarge(CameraFrameError):
    code = "CAM-04"
    hint = "Raise ring_frame_kib in lane.toml to what is named above, or lower the camera's resolution or JPEG quality."


class CameraUnreachable(CameraError):
    code = "CAM-05"
    hint = "Ping the camera's address from the box; check its power, the cable, the switch and the port in the URL."
    retryable = True


class CameraDenied(CameraError):
    code = "CAM-06"
    hint = "Put the camera's user name and password into [camera.device], and allow that user to view the stream."
    retryable = True


class StreamNotFound(CameraError):
    code = "CAM-07"
    hint = "The camera answers, but not at this path: look up its stream path in the camera's manual."
    retryable = True


class StreamNotVideo(CameraError):
    code = "CAM-08"
    hint = "Open the URL in a video player. sealane takes MJPEG over HTTP and H.264, H.265 or MJPEG over RTSP."
    retryable = True


class StreamEnded(CameraError):
    code = "CAM-09"
    hint = "The camera closed the connection: it restarts, or serves too many viewers. sealane connects again."
    retryable = True


class StreamLate(CameraError):
    code = "CAM-10"
    hint = "Decoding can't keep up with the stream: lower the camera's resolution or frame rate, or use MJPEG."
    retryable = True


class PicturesMissing(CameraError):
    code = "CAM-11"
    hint = "Let path in [camera.device] name a folder of JPEG, PNG or WebP photographs, or one video file."


class PicturesEnded(CameraError):
    code = "CAM-12"
    hint = "Every picture was shown once; set loop = true in [camera.device] to begin again."


# --- models and reading ---------------------------------------------------------------------------------------------


class ModelError(SealaneError):
    """Model files, their manifest, the runtime, and images given to the reader."""


class RuntimeMissing(ModelError):
    code = "MODEL-01"
    hint = (
        "Install one runtime, in the folder of sealane: pip install '.[litert]' (or '.[tflite]' on Python 3.11 with "
        "numpy 1.x)."
    )


class ManifestInvalid(ModelError):
    code = "MODEL-02"
    hint = "Install the model bundle again; a bundle is manifest.json and the files it names, in one folder."


class ManifestMismatch(ModelError):
    code = "MODEL-03"
    hint = "A model file was changed or half copied. Install the bundle again; never edit one file of it."


class ModelRefused(ModelError):
    code = "MODEL-04"
    hint = "The runtime is too old for this model: update ai-edge-litert, or install the bundle made for this version."


class ImageUnreadable(ModelError):
    code = "READ-01"
    hint = "Give whole JPEG, PNG or WebP files, or folders of them; open the file in a viewer to see if it is damaged."


# --- record and seal ------------------------------------------------------------------------------------------------


class RecordError(SealaneError):
    """The plaintext record and its coding."""


class RecordInvalid(RecordError):
    code = "REC-01"
    hint = "A stage of this software made a record out of its own bounds: report the field named above."


class RecordMalformed(RecordError):
    code = "REC-02"
    hint = "The opened bytes are no record of this format: the lane may run a newer version than this program."


class SealError(SealaneError):
    """Signing, sealing, verifying, opening. Always fails closed."""


class MessageMalformed(SealError):
    code = "SEAL-01"
    hint = "These bytes are not in the form of docs/wire-format.md: not from a lane, damaged, or from a newer version."


class SignatureInvalid(SealError):
    code = "SEAL-02"
    hint = "The message was altered or is not from this signer; compare the key's fingerprint with the one enrolled."


class NotARecipient(SealError):
    code = "SEAL-03"
    hint = "The message was not sealed for this key; use the key of one of the recipients named above."


class OpeningFailed(SealError):
    code = "SEAL-04"
    hint = "The key has the right name but does not open the message: one of the two was altered."


class AlgorithmUnsupported(SealError):
    code = "SEAL-05"
    hint = "docs/wire-format.md lists the algorithms; make the key again with one of them."


class VersionUnsupported(SealError):
    code = "SEAL-06"
    hint = "Update this program: it reads the format version of its own time and the one before."


class ReceiptMalformed(SealError):
    code = "SEAL-07"
    hint = "These bytes are no receipt as docs/wire-format.md describes it; a receipt comes only from a collector."


class TokenUnavailable(SealError):
    code = "SEAL-08"
    hint = "See that the token is plugged in and its PKCS#11 library (module-path) installed for this processor."
    retryable = True


class TokenRefused(SealError):
    code = "SEAL-09"
    hint = "Check the PIN (pin-source in the key file, or the one typed): most tokens lock after a few wrong ones."


class TokenKeyMissing(SealError):
    code = "SEAL-10"
    hint = "List the token's keys (pkcs11-tool -O) and name one of the right kind with object= or id= in the key file."


class KeyFileError(SealaneError):
    """Key files: reading, writing, passphrases."""


class KeyFileMissing(KeyFileError):
    code = "KEY-01"
    hint = "Look at the path and at who may use it. `sealane enrol` makes a lane's keys, `sealane keys` all others."


class KeyFilePassphrase(KeyFileError):
    code = "KEY-02"
    hint = "Give the passphrase that the key was made with."


class KeyFileExposed(KeyFileError):
    code = "KEY-03"
    hint = "Others on this machine can read this secret: chmod 600 the file, and replace the secret if anyone may have."


class KeyFileWrongKind(KeyFileError):
    code = "KEY-04"
    hint = (
        "A signing key signs, a recipient key opens (in a token only one of --type p256), and a .pub file holds the "
        "public half: give the one asked for."
    )


class KeyFileMalformed(KeyFileError):
    code = "KEY-05"
    hint = "The file holds no key in PEM form that this version knows; copy it again from where it was made."


class KeyFileExists(KeyFileError):
    code = "KEY-06"
    hint = "A key is never overwritten: choose another name, or move the old one away and keep it."


# --- trust ----------------------------------------------------------------------------------------------------------


class TrustError(SealaneError):
    """What the data's owner signed, and how it gets here."""


class TrustMissing(TrustError):
    code = "TRUST-01"
    hint = (
        "A lane: finish the enrolment, `sealane enrol --finish FOLDER` with what the owner gave you for it. Elsewhere: "
        "look at --root, the owner's root.json, and at --trust."
    )


class TrustRefused(TrustError):
    code = "TRUST-02"
    hint = "Somebody brings what the owner did not sign, or brings something old again. The policy in force is kept."


class TrustExpired(TrustError):
    code = "TRUST-03"
    hint = (
        "The owner must sign again (`sealane authority sign`); until then records are sealed for the same readers. "
        "An old store that nobody signs for any more: `sealane audit --archive`."
    )
    retryable = True


class TrustUnreachable(TrustError):
    code = "TRUST-04"
    hint = "Look at the folder, address or broker that [trust] source names; the policy in force is kept meanwhile."
    retryable = True


class TrustClock(TrustError):
    code = "TRUST-05"
    hint = "Set the clock (NTP): a clock in the past would make old metadata look valid."
    retryable = True


class PolicyMalformed(TrustError):
    code = "TRUST-06"
    hint = "The owner's policy is of a newer version than this program, or was made by another one."


class NotEnrolled(TrustError):
    code = "TRUST-07"
    hint = "The owner's policy does not list this lane's signing key: enrol it, or ask the owner why it is gone."


class TrustUnkept(TrustError):
    code = "TRUST-08"
    hint = "Look at the folder trust in state.directory: space, owner, a failing disk. The policy in force is kept."
    retryable = True


class TrustNotSetUp(TrustError):
    code = "TRUST-09"
    hint = (
        "Put a [trust] table with root_file and source into lane.toml, in place of recipient_files and "
        "collector_files; docs/lane.toml shows it."
    )


class TrustUnconfirmed(TrustError):
    code = "TRUST-10"
    hint = (
        "Ask the owner over the phone for the root's fingerprint, which `sealane authority status` shows, and compare "
        "it at a terminal, or give it: --root-fingerprint."
    )


class TrustNotAsShown(TrustUnconfirmed):
    code = "TRUST-11"
    hint = (
        "Ask the owner for the root's fingerprint again, over the phone, and type what you hear. If it still differs, "
        "the folder was swapped on the way: use nothing of it, and have it brought another way."
    )


class AuthorityError(TrustError):
    """The owner's side: the repository, its keys and its drafts."""


class AuthorityMissing(AuthorityError):
    code = "AUTH-01"
    hint = "Give the folder that `sealane authority init` made, or make one."


class AuthorityExists(AuthorityError):
    code = "AUTH-02"
    hint = "Nothing is overwritten: choose another folder, or go on with the authority that is there."


class AuthorityRefuses(AuthorityError):
    code = "AUTH-03"
    hint = "If you know what this means, say it with --force: one lost key must not lose every record."


class AuthorityThreshold(AuthorityError):
    code = "AUTH-04"
    hint = (
        "Sign with the keys that the root names, which `sealane authority status` shows: a new root with --root-key, "
        "all else with --targets-key and --online-key."
    )


class AuthorityUnknown(AuthorityError):
    code = "AUTH-05"
    hint = "`sealane authority status` lists the names and fingerprints that there are."


class EpochMalformed(AuthorityUnknown):
    code = "AUTH-17"
    hint = "The alarm (COL-06) names the epoch, and `sealane audit --json` shows those of each lane: 16 hex digits."


class RequestInvalid(AuthorityError):
    code = "AUTH-06"
    hint = "The request was altered on the way, or is of another kind: bring the file of `sealane enrol` again."


class RequestNotAsShown(RequestInvalid):
    code = "AUTH-15"
    hint = (
        "Ask the box for its fingerprint again, over the phone, and type what you hear. If it still differs, the "
        "request was swapped on the way: enrol nothing, and have the file of the box brought another way."
    )


class ReplyUnfit(RequestInvalid):
    code = "AUTH-20"
    hint = (
        "Once the owner has run `sealane authority sign`, bring the folder LANE.enrolled of this very box again. If it "
        "is that one, ask anew: `sealane enrol`, then `add-lane` and `sign`."
    )


class AuthorityInvalid(AuthorityError):
    code = "AUTH-07"
    hint = "No policy should say that: change what is named above. The draft and what is published are as they were."


class AuthorityKeyInUse(AuthorityError):
    code = "AUTH-08"
    hint = "Only a key whose time is over is taken out: end it first, with --until a time that is past, or `revoke` it."


class AuthorityUnusable(AuthorityError):
    code = "AUTH-09"
    hint = (
        "Look at the disk (space, permissions) and run the command again; a damaged file comes back from the backup of "
        "the authority's folder."
    )


class AuthorityNothingToSign(AuthorityError):
    code = "AUTH-10"
    hint = (
        "Draft a new root first, with `sealane authority rotate-root`; a policy is signed by `sealane authority sign` "
        "without --root-key and without --fresh."
    )


class AuthorityKeyRevoked(AuthorityError):
    code = "AUTH-11"
    hint = "A revocation stands: make another key with `sealane keys` and add that one."


class AuthorityBusy(AuthorityError):
    code = "AUTH-12"
    hint = "Another command is or was at work in the authority's folder: run this one again once that has ended."


class AuthorityUnconfirmed(AuthorityError):
    code = "AUTH-13"
    hint = "Hold what is shown above against what was agreed on, and sign it at a terminal, or with --yes."


class AuthorityRootUnfit(AuthorityError):
    code = "AUTH-14"
    hint = (
        "Bring pending-root.json again from where it was drafted, and with it the repository/metadata/*root.json of "
        "there; remove it to give that root up."
    )


class AuthorityKeyOfRoot(AuthorityError):
    code = "AUTH-16"
    hint = (
        "A root key goes with `rotate-root --remove FINGERPRINT`; a targets or online key with `rotate-root --targets` "
        "or `--online` and the public file of the one that follows it."
    )


class AuthorityThresholdUnreachable(AuthorityError):
    code = "AUTH-18"
    hint = (
        "As many root keys must be there as have to sign, and one at least: another --threshold, or more root keys, "
        "`init --root-keys` or `rotate-root --add`."
    )


class AuthorityRootPending(AuthorityError):
    code = "AUTH-19"
    hint = (
        "`sealane authority status` shows what it changes: have it signed, `sign --root-key FILE`, or remove "
        "pending-root.json to give it up, with the signatures that it has."
    )


class AuthorityKeyShared(AuthorityError):
    code = "AUTH-21"
    hint = (
        "Each role has keys of its own, or the one that is in use every day is worth as much as a root key. Make "
        "another with `sealane keys owner`, and name that one."
    )


# --- outbox and delivery --------------------------------------------------------------------------------------------


class OutboxError(SealaneError):
    """The durable store of sealed messages on the lane box."""


class OutboxFull(OutboxError):
    code = "OUT-01"
    hint = "Reads go on, audit records have no more room: bring the connection back, or raise state.outbox_mib."
    retryable = True


class OutboxDiskFull(OutboxError):
    code = "OUT-02"
    hint = "Free space on the file system of state.directory; the outbox goes on by itself then."
    retryable = True


class OutboxCorrupt(OutboxError):
    code = "OUT-03"
    hint = "Move the outbox file away, keep it as evidence, and start again: a new epoch begins, and that is an alarm."


class OutboxLocked(OutboxError):
    code = "OUT-04"
    hint = "Another process holds the outbox: stop the other daemon. A lane has one."


class OutboxForeign(OutboxError):
    code = "OUT-05"
    hint = "The outbox belongs to another lane, or to another version of sealane: a lane has its own state.directory."


class ReceiptRefused(OutboxError):
    code = "OUT-06"
    hint = (
        "Compare the collector's key with those that the owner names (add-collector). If it is one of them, it "
        "confirms what this lane did not send: look for a cloned box or a receipt of another epoch."
    )


class OutboxUnavailable(OutboxError):
    code = "OUT-07"
    hint = "Look at state.directory: it must be there, on a working disk, and belong to the service's user."
    retryable = True


class EpochLinkMalformed(OutboxError):
    code = "OUT-08"
    hint = "Write one line of epoch and head, as `sealane audit --json` shows them for the lane, or remove the file."


class MqttError(SealaneError):
    """The broker and the connection to it."""


class MqttFiles(MqttError):
    code = "MQTT-01"
    hint = "Look at ca_file, certificate_file and key_file: they exist, may be read by this user, and belong together."


class MqttUnreachable(MqttError):
    code = "MQTT-02"
    hint = "See that the broker runs, and that host, port and the firewall between let this machine through."
    retryable = True


class MqttTls(MqttError):
    code = "MQTT-03"
    hint = (
        "One side does not accept the other's certificate: compare the authority, the host name and the dates (clock?)."
    )
    retryable = True


class MqttRefused(MqttError):
    code = "MQTT-04"
    hint = "The broker knows why: read its log for this client id. It must speak MQTT 5."
    retryable = True


class MqttNotAuthorised(MqttError):
    code = "MQTT-05"
    hint = "The broker's access list does not let this certificate name do that; compare it with docs/broker/acl."
    retryable = True


class MqttLost(MqttError):
    code = "MQTT-06"
    hint = (
        "It is connected again by itself. If it happens often, look at the network, and in the broker's log whether "
        "another client has the same certificate: a copied card, or a second daemon."
    )
    retryable = True


class MqttTakenOver(MqttError):
    code = "MQTT-07"
    hint = "A second client uses the same certificate name: a copied card, or a second daemon on this box."
    retryable = True


class MqttNoSubscriber(MqttError):
    code = "MQTT-08"
    hint = "The broker took the message, but no collector listens. Start the collector; nothing is lost meanwhile."
    retryable = True


class MqttPublicationRefused(MqttError):
    code = "MQTT-09"
    hint = "The broker's limits (quota, packet size, retained messages) do not allow this message; see its log."
    retryable = True


class MqttCertificateEnds(MqttError):
    code = "MQTT-10"
    hint = (
        "The owner renews it: `sealane authority renew`, sign, publish. The lane fetches it by itself, but not over "
        "the broker once the old one has ended: then take the newest LANE.enrolled to the box, `sealane enrol "
        "--finish`."
    )


# --- central --------------------------------------------------------------------------------------------------------


class StoreError(SealaneError):
    """The collector's store."""


class StoreAddress(StoreError):
    code = "STORE-01"
    hint = "Give a file name for SQLite, or postgresql+psycopg://user@host/name."


class StoreShared(StoreError):
    code = "STORE-02"
    hint = "Give all collectors that share a subscription one PostgreSQL, or run a single collector without --share."


class StoreFailed(StoreError):
    code = "STORE-03"
    hint = (
        "Look at the path, the disk (space, permissions) or the database server; nothing was confirmed that is not "
        "stored."
    )
    retryable = True


class StoreVersion(StoreError):
    code = "STORE-04"
    hint = "Use the version of sealane that made this store."


class StoreForeign(StoreFailed):
    code = "STORE-05"
    hint = "Give the file that `sealane collector --store` writes; `sealane audit` reads a capture with --capture."
    retryable = False


class CollectorError(SealaneError):
    """Messages refused by the collector, and the collector itself."""


class LaneForeign(CollectorError):
    code = "COL-01"
    hint = (
        "If it is a policy that is not known here, copy the owner's newest repository to where --trust points: the "
        "lane sends the message again. Else enrol the lane, or find out who sends in its name."
    )


class MessageMoved(CollectorError):
    code = "COL-02"
    hint = "The message came on another lane's topic than the one it was sealed for: somebody between moves messages."


class MessageAltered(CollectorError):
    code = "COL-03"
    hint = "The message is not as the lane signed it: look at who is between. The lane sends the true one again."


class MessageForked(CollectorError):
    code = "COL-04"
    hint = "Two messages under one number: a copied card, or the lane's key in other hands. Revoke that key."


class ChainBroken(CollectorError):
    code = "COL-05"
    hint = "A message does not go on from the one before it: a copied card, or a lane set back to an older state."


class EpochUnlinked(CollectorError):
    code = "COL-06"
    hint = "The lane began anew without naming what came before: a new image on the box, or messages were cut away."


class CollectorUnnamed(CollectorError):
    code = "COL-09"
    hint = (
        "Lanes refuse its receipts and keep what they sent. Give --signing-key the key that the owner named, or have "
        "this one named: `sealane authority add-collector`, sign, publish."
    )


class CaptureMalformed(CollectorError):
    code = "COL-08"
    hint = "A capture is made with mosquitto_sub -R -F '%U %t %x': one message a line."


class RecordsMissing(CollectorError):
    code = "COL-07"
    hint = (
        "Numbers are missing and not declared given up. If they are lost for good: `sealane collector --accept LANE`."
    )


# --- daemon ---------------------------------------------------------------------------------------------------------


class DaemonError(SealaneError):
    """The daemon as a whole: its control socket, its stages, its confinement."""


class StageStuck(DaemonError):
    code = "LANE-01"
    hint = "The part named above hangs; the service starts anew by itself. If it recurs: look at its cable and power."
    retryable = True


class ConfineIncomplete(DaemonError):
    code = "CONF-01"
    hint = (
        'Each part above says what it lacks. Start it with systemd/sealane@.service, or set confine = "try" in '
        "lane.toml to run without and have every state message say so."
    )


class ConfinePath(DaemonError):
    code = "CONF-02"
    hint = "Make the directory and give it to the user that sealane runs as."


class ControlUnreachable(DaemonError):
    code = "CTL-01"
    hint = "See that the lane runs (systemctl status 'sealane@*') and that you are in the group sealane."
    retryable = True


class ControlRefused(DaemonError):
    """answered: the code that the daemon answered with; what to do is what that one's hint says."""

    code = "CTL-02"
    hint = "The daemon answered with the error above; its log has more."

    def __init__(self, what: str, answered: str = "") -> None:
        super().__init__(what)
        self.answered = answered
        self.hint = next((leaf.hint for leaf in catalogue() if leaf.code == answered), type(self).hint)


class ControlGarbled(DaemonError):
    code = "CTL-03"
    hint = "The two ends differ in version: restart the daemon after an update."


class ControlPath(DaemonError):
    code = "CTL-04"
    hint = "Another lane may be running with this state directory; else choose a shorter, writable [state] directory."


class VisitUnknown(DaemonError):
    code = "CTL-05"
    hint = "Give lines of `sealane tail --json --owner-key KEY`, with a reader's key, of the same version of sealane."


class ControlFailed(DaemonError):
    code = "CTL-06"
    hint = "The daemon could not answer that; the other verbs still work. Report the log line that names the place."


class AimOff(DaemonError):
    code = "AIM-01"
    hint = "The session is over, or the daemon was restarted: run `sealane aim` again."


class AimPictureRefused(DaemonError):
    code = "AIM-02"
    hint = "Run `sealane aim` without --picture: the numbers are enough to aim by. Only the owner can allow it."


class AimPage(DaemonError):
    code = "AIM-03"
    hint = "Something else uses that port: give another with --port."


# --- simulator ------------------------------------------------------------------------------------------------------


class SimError(SealaneError):
    """The simulated lane: scenarios, photographs, ports."""


class ScenarioMissing(SimError):
    code = "SIM-01"
    hint = "Name a file of hw-sim/scenarios without its ending, or give the path of a TOML file."


class PhotosMissing(SimError):
    code = "SIM-02"
    hint = "Give a folder with photographs (jpg, png, webp), or a labelled set with images/ and labels.jsonl."


class SimPortTaken(SimError):
    code = "SIM-03"
    hint = "Another process listens there: end it, or give another port (0 takes any free one)."


class PlateStyleUnknown(SimError):
    code = "SIM-04"
    hint = "Use one of the styles listed above."


class BrokerMissing(SimError):
    code = "SIM-05"
    hint = "Install it (sudo apt-get install mosquitto), or take the embedded broker: leave BROKER out."


if __name__ == "__main__":
    sys.stdout.write(index())
