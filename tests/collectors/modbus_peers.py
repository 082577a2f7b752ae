"""Modbus peers that we did not write, each in a process of its own: libmodbus as a server, by TCP or RTU.

    python -m tests.collectors.modbus_peers rtu /dev/pts/3     (or tcp 0)

libmodbus comes with `mbpoll`; it is called here by ctypes. Registers are JSON on standard input: {"holding": {"0": 1}}. The
server says where it listens in a line, serves unit 1, and runs until it is killed.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import socket
import subprocess
import sys
import tty
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
REGISTERS = 65536


class Mapping_(ctypes.Structure):
    """`modbus_mapping_t`."""

    _fields_ = [
        *((f"nb_{kind}", ctypes.c_int) for kind in ("bits", "start_bits")),
        *((f"nb_{kind}", ctypes.c_int) for kind in ("input_bits", "start_input_bits")),
        *((f"nb_{kind}", ctypes.c_int) for kind in ("input_registers", "start_input_registers")),
        *((f"nb_{kind}", ctypes.c_int) for kind in ("registers", "start_registers")),
        ("tab_bits", ctypes.c_void_p),
        ("tab_input_bits", ctypes.c_void_p),
        ("tab_input_registers", ctypes.POINTER(ctypes.c_uint16)),
        ("tab_registers", ctypes.POINTER(ctypes.c_uint16)),
    ]


def main(kind: str, where: str) -> None:
    lib = ctypes.CDLL("libmodbus.so.5")
    for name in ("modbus_new_rtu", "modbus_new_tcp", "modbus_mapping_new"):
        getattr(lib, name).restype = ctypes.c_void_p
    lib.modbus_mapping_new.restype = ctypes.POINTER(Mapping_)
    registers = json.loads(sys.stdin.readline())
    mapping = lib.modbus_mapping_new(0, 0, REGISTERS, REGISTERS)
    for table, into in (("holding", mapping.contents.tab_registers), ("input", mapping.contents.tab_input_registers)):
        for address, word in registers.get(table, {}).items():
            into[int(address)] = word
    serve = _rtu if kind == "rtu" else _tcp
    serve(lib, mapping, where)


def _rtu(lib: ctypes.CDLL, mapping: ctypes._Pointer[Mapping_], path: str) -> None:
    context = ctypes.c_void_p(lib.modbus_new_rtu(path.encode(), 115200, ctypes.c_char(b"N"), 8, 1))
    lib.modbus_set_slave(context, 1)
    assert lib.modbus_connect(context) == 0
    print(path, flush=True)
    _answer(lib, context, mapping)


def _tcp(lib: ctypes.CDLL, mapping: ctypes._Pointer[Mapping_], _where: str) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    context = ctypes.c_void_p(lib.modbus_new_tcp(b"127.0.0.1", port))
    listening = ctypes.c_int(lib.modbus_tcp_listen(context, 5))
    assert listening.value >= 0
    print(port, flush=True)
    while lib.modbus_tcp_accept(context, ctypes.byref(listening)) >= 0:
        _answer(lib, context, mapping)
        lib.modbus_close(context)


def _answer(lib: ctypes.CDLL, context: ctypes.c_void_p, mapping: ctypes._Pointer[Mapping_]) -> None:
    question = (ctypes.c_uint8 * 260)()
    while (length := lib.modbus_receive(context, question)) != -1:
        if length > 0:
            lib.modbus_reply(context, question, length, mapping)


@contextmanager
def libmodbus(kind: str, where: str, tables: Mapping[str, Mapping[int, int]]) -> Iterator[str]:
    """Serve these registers; where: the port, or the path of the line."""
    command = [sys.executable, "-m", "tests.collectors.modbus_peers", kind, where]
    process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        process.stdin.write(json.dumps(tables) + "\n")
        process.stdin.flush()
        said = process.stdout.readline().strip()
        assert said, "libmodbus does not serve"
        yield said
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()


@asynccontextmanager
async def null_modem() -> AsyncIterator[tuple[str, str]]:
    """Two pseudo-terminals that are each other's other end."""
    pairs = [os.openpty() for _ in range(2)]
    loop = asyncio.get_running_loop()
    for master, slave in pairs:
        tty.setraw(slave)
        os.set_blocking(master, False)
    (one, _), (other, _) = pairs
    loop.add_reader(one, lambda: os.write(other, os.read(one, 4096)))
    loop.add_reader(other, lambda: os.write(one, os.read(other, 4096)))
    try:
        yield os.ttyname(pairs[0][1]), os.ttyname(pairs[1][1])
    finally:
        for master, slave in pairs:
            loop.remove_reader(master)
            os.close(master)
            os.close(slave)


if __name__ == "__main__":
    main(*sys.argv[1:])
