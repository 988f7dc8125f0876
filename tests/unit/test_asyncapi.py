"""docs/asyncapi.yaml says what the code does: topics, limits and field names are compared as text."""

import re
from pathlib import Path

from edge.enrolment import _Wire
from edge.mqtt import MAX_PACKET_BYTES, SESSION_EXPIRY_S, topic, trust_topic
from edge.publisher import RECORD_EXPIRY_S, RECORD_TYPE
from edge.seal.envelope import MAX_MESSAGE_BYTES
from edge.seal.receipt import MAX_RECEIPT_BYTES

DOCS = Path(__file__).parents[2] / "docs"
DESCRIBED = (DOCS / "asyncapi.yaml").read_text()
LEAVES = ("record", "checkpoint", "state", "receipt", "request")


def test_every_topic_is_described_and_no_other() -> None:
    addresses = re.findall(r"^    address: (.+)$", DESCRIBED, re.MULTILINE)
    assert addresses == [*(topic("{lane}", leaf) for leaf in LEAVES), trust_topic("{file}")]


def test_the_access_list_names_the_same_topics() -> None:
    acl = (DOCS / "broker" / "acl").read_text()
    granted = set(re.findall(r"^(?:pattern|topic) \w+ lanes/v1/(?:%u|\+)/(\w+)$", acl, re.MULTILINE))
    assert granted == set(LEAVES)
    assert trust_topic("#") in acl


def test_limits_are_those_of_the_code() -> None:
    for name, value in {
        "maximumPacketSize": MAX_PACKET_BYTES,
        "sessionExpiryInterval": SESSION_EXPIRY_S,
        "messageExpiryInterval": RECORD_EXPIRY_S,
        "maxLength": MAX_MESSAGE_BYTES,
    }.items():
        assert f"{name}: {value}" in DESCRIBED
    assert f"maxLength: {MAX_RECEIPT_BYTES}\n" in DESCRIBED
    assert f"defaultContentType: {RECORD_TYPE}\n" in DESCRIBED


def test_a_request_has_the_fields_of_the_code() -> None:
    request = DESCRIBED[DESCRIBED.index("    request:\n      title") : DESCRIBED.index("    file:\n      title")]
    assert set(re.findall(r"^          (\w+): \{", request, re.MULTILINE)) == set(_Wire.model_fields)


def test_operation_bindings_are_referred_to_whole_and_name_their_protocol() -> None:
    """AsyncAPI 3 has references for all bindings of an operation, not for those of one protocol."""
    operations = section("operations", "components")
    kept = section("  operationBindings", "  messages")
    referred = re.findall(r"^    bindings: (.+)$", operations, re.MULTILINE)
    named = dict(re.findall(r"^    (\w+): \{ (\w+): \{ .+ \} \}$", kept, re.MULTILINE))
    assert len(referred) == operations.count("bindings:") == operations.count("action: send")
    assert set(referred) == {f"{{ $ref: '#/components/operationBindings/{name}' }}" for name in named}
    assert len(named) == len(kept.splitlines()) - 1
    assert set(named.values()) == {"mqtt"}


def section(name: str, following: str) -> str:
    """The text from the line `name`: up to the line `following`:."""
    return DESCRIBED[DESCRIBED.index(f"\n{name}:\n") + 1 : DESCRIBED.index(f"\n{following}:\n")]
