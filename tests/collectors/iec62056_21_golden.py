"""Tables of sessions' messages, in order: the state, what is said or heard, and its bytes; one for each kind of meter.

They hold the collector's encoder and decoder and the simulator to the same bytes, which share no code. The meter is the demo's
`junction-mill` without its fault, at 01:30:15 UTC on 25 October 2026.
"""

from __future__ import annotations

from typing import NamedTuple

from collectors.iec62056_21 import State
from collectors.iec62056_21_messages import (
    Accepted,
    Answer,
    Break,
    Challenge,
    Continue,
    HdlcFollows,
    Heard,
    Identification,
    PartAnswer,
    Password,
    Read,
    ReadoutFollows,
    Refused,
    Said,
    Select,
    SelectHdlc,
    SignOn,
    Write,
)

HEADER = "P.01({})(0000)(60)(2)(7-0:13.0.0)(m3)(7-0:3.0.0)(m3)\r\n"
TWO_ROWS = "(0423378.0)(0423378.0)\r\n(0423417.4)(0423417.4)"
EIGHT_ROWS = (
    "(0422792.4)(0422792.4)\r\n(0422912.6)(0422912.6)\r\n(0423015.8)(0423015.8)\r\n(0423103.0)(0423103.0)\r\n"
    "(0423175.5)(0423175.5)\r\n(0423236.9)(0423236.9)\r\n(0423286.8)(0423286.8)\r\n(0423342.7)(0423342.7)\r"
)
PROFILE = HEADER.format("2261025000000") + TWO_ROWS
PART = HEADER.format("2261024160000") + EIGHT_ROWS
READOUT = "0.0.0(DRE-10)\r\n0.9.1(2013015)\r\n0.9.2(2261025)\r\n7-0:13.0.0(0423434.7*m3)\r\n7-0:3.0.0(0423434.7*m3)\r\n!\r\n"


class Step(NamedTuple):
    """One message."""

    state: State
    event: Said | Heard
    data: bytes


GOLDEN = (
    Step(State.IDLE, SignOn(), b"/?!\r\n"),
    Step(State.CALLED, Identification("DRY", "5", "\\@DRE-10"), b"/DRY5\\@DRE-10\r\n"),
    Step(State.IDENTIFIED, Select("programming", "5"), b"\x06051\r\n"),
    Step(State.SELECTED, Challenge("M-1010"), b"\x01P0\x02(M-1010)\x03\x00"),
    Step(State.READY, Password("12345678"), b"\x01P1\x02(12345678)\x03i"),
    Step(State.PROVING, Refused("ER02"), b"\x02(ER02)\x03\x17"),
    Step(State.READY, Password("00000000"), b"\x01P1\x02(00000000)\x03a"),
    Step(State.PROVING, Accepted(), b"\x06"),
    Step(State.READY, Read("0.9.1"), b"\x01R5\x020.9.1()\x03_"),
    Step(State.ASKED, Answer("0.9.1(2013015)"), b"\x020.9.1(2013015)\x03\x0e"),
    Step(State.READY, Read("P.01", "22610250000;22610250200"), b"\x01R5\x02P.01(22610250000;22610250200)\x03!"),
    Step(State.ASKED, Answer(PROFILE), b"\x02" + PROFILE.encode() + b"\x03I"),
    Step(State.READY, Read("7-0:99.0.0"), b"\x01R5\x027-0:99.0.0()\x03w"),
    Step(State.ASKED, Refused("ER10"), b"\x02(ER10)\x03\x14"),
    Step(State.READY, Read("P.01", "22610241600;22610250100", True), b"\x01R6\x02P.01(22610241600;22610250100)\x03'"),
    Step(State.ASKED, PartAnswer(PART), b"\x02" + PART.encode() + b"\x04E"),
    Step(State.MORE, Continue(), b"\x06"),
    Step(State.ASKED, Answer("\n" + TWO_ROWS), b"\x02\n" + TWO_ROWS.encode() + b"\x03\x0e"),
    Step(State.READY, Write("7-0:0.8.1", "6"), b"\x01W5\x027-0:0.8.1(6)\x03}"),
    Step(State.WRITING, Accepted(), b"\x06"),
    Step(State.READY, Write("7-0:0.8.1", "61"), b"\x01W5\x027-0:0.8.1(61)\x03L"),
    Step(State.WRITING, Refused("ER12"), b"\x02(ER12)\x03\x16"),
    Step(State.READY, Read("7-0:0.8.1", formatted=False), b"\x01R1\x027-0:0.8.1()\x03J"),
    Step(State.ASKED, Answer("7-0:0.8.1(6*min)"), b"\x027-0:0.8.1(6*min)\x03]"),
    Step(State.READY, Break(), b"\x01B0\x03q"),
    Step(State.IDLE, SignOn(), b"/?!\r\n"),
    Step(State.CALLED, Identification("DRY", "5", "\\@DRE-10"), b"/DRY5\\@DRE-10\r\n"),
    Step(State.IDENTIFIED, Select("readout", "5"), b"\x06050\r\n"),
    Step(State.SELECTED, Answer(READOUT), b"\x02" + READOUT.encode() + b"\x03Z"),
)

CALLED = Step(State.IDLE, SignOn(), b"/?!\r\n")
MODE_B = (
    CALLED,
    Step(State.CALLED, ReadoutFollows("DRY", "C", "\\@DRE-10"), b"/DRYC\\@DRE-10\r\n"),
    Step(State.SELECTED, Answer(READOUT), b"\x02" + READOUT.encode() + b"\x03Z"),
)
MODE_E = (
    CALLED,
    Step(State.CALLED, Identification("DRY", "5", "\\2DRE-10"), b"/DRY5\\2DRE-10\r\n"),
    Step(State.IDENTIFIED, SelectHdlc("4"), b"\x06242\r\n"),
    Step(State.CHANGING, HdlcFollows("4"), b"\x06242\r\n"),
)
RANGE = "3;2026-10-25,00:00:00;2026-10-25,01:00:00;1"
REST_OF_ROW = "(1.01325)(15.00)(1.00000)(1.00000)(0)(0)(0)(0)(0)(0x8105)(CRC Ok)"
FIRST_ROW = "(4735)(24)(2026-10-25,00:00:00)" + 4 * "(0423378.0)" + REST_OF_ROW
LAST_ROW = "(4736)(25)(2026-10-25,01:00:00)" + 4 * "(0423417.4)" + REST_OF_ROW
LIS200 = (
    CALLED,
    Step(State.CALLED, Identification("DRY", "5", "\\@DRE-10"), b"/DRY5\\@DRE-10\r\n"),
    Step(State.IDENTIFIED, Select("programming", "5"), b"\x06051\r\n"),
    Step(State.SELECTED, Challenge("M-1010"), b"\x01P0\x02(M-1010)\x03\x00"),
    Step(State.READY, Password("00000000", lock="4:171.0"), b"\x01W1\x024:171.0(00000000)\x03A"),
    Step(State.PROVING, Accepted(), b"\x06"),
    Step(State.READY, Read("1:400.0", "1", formatted=False), b"\x01R1\x021:400.0(1)\x03s"),
    Step(State.ASKED, Answer("1:400.0(2026-10-25,01:30:15)"), b"\x021:400.0(2026-10-25,01:30:15)\x03\t"),
    Step(State.READY, Read("3:V.0", "4;;;1", True, False), b"\x01R3\x023:V.0(4;;;1)\x03\x1e"),
    Step(State.ASKED, Refused("#0103"), b"\x02(#0103)\x03#"),
    Step(State.READY, Read("3:V.0", RANGE, True, False), b"\x01R3\x023:V.0(" + RANGE.encode() + b")\x03\x18"),
    Step(State.ASKED, PartAnswer(FIRST_ROW), b"\x02" + FIRST_ROW.encode() + b"\x04\t"),
    Step(State.MORE, Continue(), b"\x06"),
    Step(State.ASKED, Answer(LAST_ROW), b"\x02" + LAST_ROW.encode() + b"\x03\r"),
    Step(State.READY, Break(), b"\x01B0\x03q"),
)
