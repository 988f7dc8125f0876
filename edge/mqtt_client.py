"""paho's client, made to take no more from a broker than was asked for: what a broker sends fills no memory.

It overrides two functions that paho keeps to itself: its version is locked, and the tests say if they are gone.
"""

import paho.mqtt.client as paho
from paho.mqtt.enums import MQTTErrorCode

MAX_PACKET_BYTES = 256 * 1024
"""Larger packets are not asked for (MQTT 5, 3.1.2.11.4), and a broker that sends one all the same is left."""
MAX_ANSWER_BYTES = 4 * 1024
"""Of a packet that is no publication: paho makes some 2 KB of each byte of one that grants subscriptions."""
MAX_UNREAD = 5000
"""Packets that a broker leaves unread while it sends others, each of which is to be acknowledged."""

_KIND, _PUBLISH = 0xF0, 0x30
_KIND_AND_QOS, _PUBLISH_IN_TWO_STEPS = 0xF4, 0x34
"""Packet type and the higher bit of the QoS (MQTT 5, 3.3.1)."""


class Client(paho.Client):
    """Reads packets up to MAX_PACKET_BYTES or MAX_ANSWER_BYTES, from a broker that reads what it is sent, and
    publications of QoS 0 and 1 only: nothing else is subscribed to, and paho keeps those of QoS 2 until the broker lets
    go of them."""

    def _sock_recv(self, bufsize: int) -> bytes:
        publication = self._in_packet["command"] & _KIND == _PUBLISH
        if bufsize > (MAX_PACKET_BYTES if publication else MAX_ANSWER_BYTES):
            raise ConnectionAbortedError(f"a packet of {bufsize} bytes")
        received: bytes = super()._sock_recv(bufsize)
        return received

    def _packet_handle(self) -> MQTTErrorCode:
        if self._in_packet["command"] & _KIND_AND_QOS == _PUBLISH_IN_TWO_STEPS:
            self._easy_log(paho.MQTT_LOG_ERR, "a publication of QoS 2")
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        if len(self._out_packet) > MAX_UNREAD:
            self._easy_log(paho.MQTT_LOG_ERR, "it reads nothing of what it is sent")
            return MQTTErrorCode.MQTT_ERR_PROTOCOL
        return super()._packet_handle()
