"""An IEC 62056-21 session in any state, fed any bytes in pieces: events or typed errors, an end to them, bounded memory, and
no text whose block check character does not hold."""

from __future__ import annotations

from collectors.iec62056_21 import FRAME_BYTES_MAX, Client, RemoteError, State
from collectors.iec62056_21_messages import Answer, NeedData, PartAnswer, Read, Select, SelectHdlc, SignOn, framed

_IDENTIFICATION = b"/DRY5\\@DRE-10\r\n"
_CHALLENGE = framed(b"\x01", b"P0\x02(M-1010)")
_PROFILE = b"P.01(2261025000000)(0000)(60)(1)(7-0:13.0.0)(m3)\r\n(0423378.0)\r\n(0423417.4)"
SEEDS = tuple(
    bytes((start, size)) + data
    for start, size, data in (
        (0, 0, _IDENTIFICATION),
        (0, 3, b"/?!\r\n/ABCEMETER\r\n" + framed(b"\x02", b"13.0.0(1*m3)\r\n!\r\n")),
        (1, 200, _CHALLENGE),
        (2, 7, framed(b"\x02", _PROFILE)),
        (3, 0, framed(b"\x02", _PROFILE, b"\x04")),
        (3, 9, framed(b"\x02", b"(ER10)") + framed(b"\x01", b"B0") + b"\x06\x15"),
        (4, 0, b"\x06252\r\n"),
    )
)


def client_at(start: int) -> Client:
    """A session that has come so far: called, identified, in programming mode, asked for all or for parts, asked for HDLC."""
    client = Client()
    client.send(SignOn())
    if start == 0:
        return client
    client.receive_data(_IDENTIFICATION)
    client.next_event()
    if start == 4:
        client.send(SelectHdlc("2"))
        return client
    client.send(Select("programming", "5"))
    if start > 1:
        client.receive_data(_CHALLENGE)
        client.next_event()
        client.send(Read("P.01", "2261025000000;", partial=start == 3))
    return client


def decode(data: bytes) -> None:
    """The first octet says where the session stands, the second how much comes at a time; the rest comes in."""
    if len(data) < 3:
        return
    client, size, said = client_at(data[0] % 5), 1 + data[1], data[2:]
    for n in range(0, len(said), size):
        client.receive_data(said[n : n + size])
        assert len(client._buffer) <= FRAME_BYTES_MAX
        for event in _drained(client, len(said)):
            if isinstance(event, Answer | PartAnswer):
                end = b"\x03" if isinstance(event, Answer) else b"\x04"
                assert framed(b"\x02", event.text.encode(), end) in said, "a text whose BCC does not hold"
        assert client.state in State


def _drained(client: Client, octets: int) -> list[object]:
    found: list[object] = []
    for _ in range(octets + 2):
        try:
            event = client.next_event()
        except RemoteError as error:
            found.append(error)
            continue
        if isinstance(event, NeedData):
            return found
        found.append(event)
    raise AssertionError("it does not come to an end")
