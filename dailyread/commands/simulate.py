"""`dailyread simulate`: simulated meters on real sockets and pseudo-terminals, in real or in virtual time."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from pathlib import Path

import msgspec

from collectors.clock import SystemClock
from collectors.outbox import Outbox
from collectors.publisher import Publisher
from dailyread.commands.collect import route
from dailyread.config import KafkaConfig, config_or_exit, kind_of
from dailyread.jsonlines import write_fact
from dailyread.kafka import producer
from dailyread.settings import ConfigError
from metering.facts import AnyFact
from metering.gasday import GasDays
from simulators.clock import ClockServer, SteppedClock
from simulators.serve import Service, all_others_wait, entered_facts, feed, serve
from simulators.sites import DEMO_SITES, Sites, SitesError, load_sites

HELP = """Serve simulated meters, by Modbus TCP and DLMS/COSEM on loopback ports, by Modbus RTU and IEC 62056-21 on
pseudo-terminals (links to them are where the sites' `address` says), with the faults that the file of sites gives them,
until SIGTERM or Ctrl-C. With --gateway-config it writes what `dailyread collect` needs to poll them. With --clock stepped
the run has virtual time: it begins with the first Gas Day as soon as a collector has joined, moves when all wait, and ends
by itself an hour after 11:00 on the Day after the last; collectors end with it. What people would enter (registrations,
meters, calorific values) and ticks are published to the Kafka of --publish, or written by --facts. Exit 0: the end, or told
to stop; 1: Kafka did not take everything, or an address or a file cannot be had; 2: the file of sites or the configuration
is wrong."""

log = logging.getLogger(__name__)
GATEWAY = "simulate"
FLUSH_S = 60.0
Give = Callable[[list[AnyFact], datetime], Awaitable[None]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    parser.add_argument("--sites", metavar="FILE", type=Path, default=DEMO_SITES, help="TOML of sites (default: the demo's)")
    parser.add_argument("--days", metavar="N", type=int, help="that many Gas Days, instead of the file's")
    parser.add_argument(
        "--clock", choices=("real", "stepped"), default="real", help="the machine's time (default), or virtual time"
    )
    parser.add_argument(
        "--collectors", metavar="N", type=int, default=1, help="virtual time begins when so many have joined (default: 1)"
    )
    parser.add_argument("--gateway-config", metavar="OUT.toml", type=Path, help="write a gateway's configuration there")
    parser.add_argument(
        "--publish", metavar="FILE", type=Path, help="publish what people enter to the Kafka of this configuration"
    )
    parser.add_argument("--facts", metavar="OUT.jsonl", type=Path, help="write what people enter there, as JSON Lines")


def run(args: argparse.Namespace) -> int:
    """Simulate; returns the exit code."""
    try:
        sites = load_sites(args.sites, args.days)
        kafka = config_or_exit(kind_of(args.publish), args.publish).kafka if args.publish else None
    except (SitesError, ConfigError) as error:
        print(error, file=sys.stderr)
        return 2
    try:
        if args.facts is not None:
            args.facts.write_bytes(
                b"".join(write_fact(fact) + b"\n" for facts in entered_facts(sites, GasDays()) for fact in facts)
            )
        return asyncio.run(_simulate(sites, args, kafka))
    except OSError as error:
        print(f"dailyread simulate: {error}", file=sys.stderr)
        return 1


async def _simulate(sites: Sites, args: argparse.Namespace, kafka: KafkaConfig | None) -> int:
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    try:
        if args.clock == "stepped":
            return await _stepped(sites, args, kafka)
        return await _real(sites, args)
    except asyncio.CancelledError:
        return 0


async def _real(sites: Sites, args: argparse.Namespace) -> int:
    service = await serve(sites.sites, SystemClock().now, _folder(args))
    try:
        _say_ready(service, sites, args, "system", None)
        await asyncio.Event().wait()
    finally:
        await service.close()
    return 0


async def _stepped(sites: Sites, args: argparse.Namespace, kafka: KafkaConfig | None) -> int:
    clock = SteppedClock(sites.starts_at())
    async with AsyncExitStack() as stack:
        service = await serve(sites.sites, clock.now, _folder(args))
        stack.push_async_callback(service.close)
        publisher, give = _published(stack, kafka) if kafka else (None, _ignored)
        server = ClockServer(clock)
        address = (await server.listen_tcp()).replace("tcp:", "tcp://", 1)
        stack.push_async_callback(server.close)
        me = clock.join(GATEWAY)
        running = asyncio.create_task(clock.run(expected=1 + args.collectors))
        stack.callback(running.cancel)
        _say_ready(service, sites, args, address, kafka)
        await feed(sites, me, give)
        await all_others_wait(clock, me)
        await server.close()
        if publisher is not None and not await asyncio.to_thread(publisher.wait_empty, FLUSH_S):
            log.error("Kafka has not taken everything within %g s", FLUSH_S)
            return 1
    return 0


def _published(stack: AsyncExitStack, kafka: KafkaConfig) -> tuple[Publisher, Give]:
    """A publisher of its own, with an outbox that ends with the run, and what gives facts to it."""
    folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="dailyread-simulate-"))
    outbox = Outbox(Path(folder) / "outbox.sqlite", GATEWAY)
    stack.callback(outbox.close)
    publisher = Publisher(outbox, partial(producer, kafka), route(kafka, GATEWAY))
    publisher.start()
    stack.callback(publisher.stop)

    async def give(facts: list[AnyFact], received_at: datetime) -> None:
        await asyncio.to_thread(outbox.put, facts, received_at)

    return publisher, give


async def _ignored(_facts: list[AnyFact], _received_at: datetime) -> None:
    pass


def _folder(args: argparse.Namespace) -> Path | None:
    """Where profile maps are kept: beside the gateway's configuration, where one is written."""
    if args.gateway_config is None:
        return None
    folder = args.gateway_config.absolute().with_suffix(".maps")
    folder.mkdir(parents=True, exist_ok=True)
    return Path(folder)


def _say_ready(service: Service, sites: Sites, args: argparse.Namespace, clock: str, kafka: KafkaConfig | None) -> None:
    """What is served, and the gateway's configuration."""
    for settings in service.settings:
        print(f"{settings.meter_point}  {settings.meter}  {settings.protocol}  {settings.address}")
    if args.gateway_config is not None:
        args.gateway_config.write_text(_gateway_toml(service, args, clock, kafka))
        since = f" --since {sites.first_day}" if clock != "system" else ""
        print(f"ready: dailyread collect --config {args.gateway_config}{since}", flush=True)
    else:
        print("ready", flush=True)


def _gateway_toml(service: Service, args: argparse.Namespace, clock: str, kafka: KafkaConfig | None) -> str:
    servers = list(kafka.bootstrap_servers) if kafka else ["127.0.0.1:9092"]
    settings = {
        "gateway": "gateway-1",
        "state_dir": str(args.gateway_config.absolute().with_suffix(".state")),
        "clock": clock,
    }
    kafka_settings = {
        "bootstrap_servers": servers,
        "partitions": kafka.partitions if kafka else 8,
        "time": "broker" if clock == "system" else "simulated",
    }
    lines = [f"{key} = {json.dumps(value)}" for key, value in settings.items()]
    lines += ["", "[kafka]", *(f"{key} = {json.dumps(value)}" for key, value in kafka_settings.items())]
    if kafka:
        lines += ["", "[kafka.topics]"]
        lines += [f"{key} = {json.dumps(value)}" for key, value in msgspec.structs.asdict(kafka.topics).items()]
    return "\n".join(lines) + "\n\n" + service.gateway().toml()
