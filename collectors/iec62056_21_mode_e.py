"""How a meter on a serial line is opened for HDLC by IEC 62056-21 mode E.

Sign-on at 300 Bd with 7-bit characters; the identification offers HDLC (`\\2`); `ACK 2 Z 2`, which the meter says again at
the same speed; then both go on at the speed that Z stands for, 8 bits without parity. What follows is HDLC.
"""

from __future__ import annotations

from decimal import Decimal

from collectors.iec62056_21_session import Iec62056Meter, Timing, in_session
from collectors.serial_port import SerialLine

STANDARD = Timing()


async def open_hdlc(
    line: SerialLine,
    address: str = "",
    *,
    baud: int = 300,
    baud_max: int = 9600,
    wake_up: bool = False,
    timing: Timing = STANDARD,
) -> int:
    """Have the meter of this device address (empty: any) speak HDLC; the speed, at which the line is then, without parity.

    Raises PollError: nobody answers, or the meter offers no HDLC. The messages are in the line's trace. Hold its lock.
    """
    meter = Iec62056Meter(
        site=line.path, m3_per_tick=Decimal(1), device_address=address, baud=baud, baud_max=baud_max, wake_up=wake_up
    )
    line.parity = "even"
    try:
        return await in_session(line, meter, timing, lambda session: session.hdlc(), in_programming_mode=False)
    finally:
        line.parity = "none"
