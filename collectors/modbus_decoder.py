"""pymodbus's decoder of answers, quicker with registers: it takes them one by one, and writes each out for a log that nobody
keeps, which were a fifth of the time of a poll."""

from __future__ import annotations

import struct

from pymodbus.exceptions import ModbusIOException
from pymodbus.pdu import DecodePDU
from pymodbus.pdu.register_message import ReadHoldingRegistersResponse, ReadInputRegistersResponse


class _Registers(ReadHoldingRegistersResponse):
    """Registers out of an answer's octets from its byte count on."""

    def decode(self, data: bytes) -> None:
        octets = data[0]
        if octets >= len(data) or octets % 2:
            raise ModbusIOException(f"byte count {octets} in an answer of {len(data)} octets", self.function_code)
        self.registers = list(struct.unpack_from(f">{octets // 2}H", data, 1))

    def __str__(self) -> str:
        return f"{len(self.registers)} registers of unit {self.dev_id}, transaction {self.transaction_id}"


class _HoldingRegisters(_Registers):
    function_code = ReadHoldingRegistersResponse.function_code


class _InputRegisters(_Registers):
    function_code = ReadInputRegistersResponse.function_code


DECODER = DecodePDU(is_server=False)
"""For the framer of any client: it keeps nothing of what it decodes."""

for _response in (_HoldingRegisters, _InputRegisters):
    DECODER.register(_response)
