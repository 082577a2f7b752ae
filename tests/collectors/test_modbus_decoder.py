"""The decoder of registers against pymodbus's own."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pymodbus.pdu import DecodePDU

from collectors.modbus_decoder import DECODER

THEIRS = DecodePDU(is_server=False)


@given(st.sampled_from([3, 4]), st.lists(st.integers(0, 0xFFFF), max_size=125))
def test_registers_are_what_pymodbus_makes_of_them(function: int, registers: list[int]) -> None:
    body = bytes([function, 2 * len(registers)]) + b"".join(each.to_bytes(2, "big") for each in registers)
    theirs, ours = THEIRS.decode(body), DECODER.decode(body)
    assert theirs is not None
    assert ours is not None
    assert (ours.function_code, ours.registers) == (theirs.function_code, theirs.registers) == (function, registers)


@pytest.mark.parametrize("body", [b"\x03\x04\x00\x01\x00", b"\x04\x03\x00\x01\x00", b"\x03"], ids=["short", "odd", "empty"])
def test_what_holds_no_registers_is_no_answer(body: bytes) -> None:
    assert DECODER.decode(body) is None


def test_other_answers_are_pymodbus_own() -> None:
    refused = DECODER.decode(b"\x83\x02")
    written = DECODER.decode(b"\x10\x00\x01\x00\x02")
    assert refused is not None
    assert refused.isError()
    assert written is not None
    assert written.count == 2
