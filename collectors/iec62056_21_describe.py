"""What a message of IEC 62056-21 means, in a line of words, for who looks on while a meter is set up."""

from __future__ import annotations

import re

from collectors.iec62056_21_messages import (
    ACK,
    BAUD_MODE_B,
    BAUD_MODE_C,
    EOT,
    ETX,
    NAK,
    SOH,
    STX,
    bcc,
)

TEXT_SHOWN = 60
_COMMANDS = {
    "R1": "reads", "R3": "reads in blocks", "R5": "reads", "R6": "reads in blocks",
    "W1": "writes", "W5": "writes",
}  # fmt: skip
_IDENTIFICATION = re.compile(rb"/([A-Za-z]{3})(.)([^\r\n]*)\r\n")
_MESSAGE = re.compile(
    rb"\x01[^\x01\x03\x04]*[\x03\x04].?|\x02[^\x01-\x04]*[\x03\x04].?|/[^\n]*\n|\x06[0-9].[0-9]\r\n|[\x06\x15]|[^\x01\x02\x06\x15/]+|.",
    re.DOTALL,
)
_SELECT = re.compile(rb"\x06([0-9])(.)([0-9])\r\n")
_MODES = {"0": "data readout", "1": "programming mode", "2": "binary mode (HDLC)"}


def described(octets: bytes) -> str:
    """One message or several, as they were sent or heard; what a password's message carries is never shown."""
    if octets and not octets.strip(b"\x00"):
        return f"wake-up: {len(octets)} NUL"
    parts = [_message(part) for part in _messages(octets.lstrip(b"\x00"))]
    return "; ".join(parts) or "nothing"


def _messages(octets: bytes) -> list[bytes]:
    """Split where a frame ends with its check character, or a line."""
    return _MESSAGE.findall(octets)


def _message(part: bytes) -> str:
    if part == ACK:
        return "ACK: accepted, or go on"
    if part == NAK:
        return "NAK: not understood, say it again"
    if found := re.fullmatch(rb"/\?([^!]*)!\r\n", part):
        return f"sign-on to {_text(found[1]) or 'whichever meter hears it'}"
    if found := _IDENTIFICATION.fullmatch(part):
        return _identification(*found.groups())
    if found := _SELECT.fullmatch(part):
        return _option(*(group.decode("ascii", "replace") for group in found.groups()))
    if part[:1] in (SOH, STX):
        return _frame(part)
    return f"{len(part)} octets that are no message"


def _identification(maker: bytes, character: bytes, text: bytes) -> str:
    letter = character.decode("ascii", "replace")
    mode, baud = ("C", BAUD_MODE_C[letter]) if letter in BAUD_MODE_C else ("B", BAUD_MODE_B.get(letter, 0))
    speed = f"mode {mode}, up to {baud} Bd" if baud else "mode A, 300 Bd"
    hdlc = ", HDLC too (mode E)" if text.startswith(b"\\2") else ""
    return f"identification: {_text(maker)}, {_text(text)}, {speed}{hdlc}"


def _option(protocol: str, baud: str, mode: str) -> str:
    speed = f"{BAUD_MODE_C[baud]} Bd" if baud in BAUD_MODE_C else f"baud character {baud!r}"
    return f"option select: {_MODES.get(mode, f'mode {mode!r}')} at {speed}" + (", protocol 2" if protocol == "2" else "")


def _frame(part: bytes) -> str:
    """SOH or STX, text, ETX or EOT, check character."""
    end = next((n for n, octet in enumerate(part) if octet in (ETX[0], EOT[0])), len(part))
    body = part[1:end]
    said = _command(body) if part[:1] == SOH else f"data: {_text(body)}"
    if len(part) < end + 2:
        return f"{said}, cut short"
    if part[end : end + 1] == EOT:
        said += ", more follows"
    masked = part[:1] == SOH and part[end + 1 : end + 2] == b"*"
    return said if masked or bcc(part[1 : end + 1]) == part[end + 1] else f"{said}, WRONG CHECK CHARACTER"


def _command(body: bytes) -> str:
    name, _, rest = body.decode("ascii", "replace").partition("\x02")
    if name == "P0":
        return f"programming mode is open, operand {_text(rest.encode())}"
    if name in ("P1", "P2"):
        return f"{name}: password"
    if name == "B0":
        return "break"
    if name not in _COMMANDS:
        return f"{_text(name.encode())}: no command that is known"
    code, _, argument = rest.partition("(")
    if name[:1] == "W" and set(argument.rstrip(")")) == {"*"}:
        return f"{name}: password into {code}"
    shown = f" ({_text(argument.removesuffix(')').encode())})" if argument not in ("", ")") else ""
    return f"{name}: {_COMMANDS[name]} {_text(code.encode())}{shown}"


def _text(octets: bytes) -> str:
    """Printable text, shortened."""
    text = " ".join(octets.decode("ascii", "replace").split())
    text = "".join(letter if letter.isprintable() else "." for letter in text)
    return text if len(text) <= TEXT_SHOWN else f"{text[:TEXT_SHOWN]}... ({len(octets)} characters)"
