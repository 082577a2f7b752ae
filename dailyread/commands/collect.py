"""`dailyread collect`: the site gateway: polls the meters, keeps what they say on disk, publishes it to Kafka."""

from __future__ import annotations

import argparse
import asyncio
import gc
import logging
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import date
from functools import partial

from kafka import KafkaProducer

from collectors.clock import Clock, ClockEnded, RemoteClock, SystemClock
from collectors.dlms_push import DlmsPush
from collectors.evidence import EvidenceStore
from collectors.frames import Route
from collectors.gateway import Gateway
from collectors.metrics import exposition, values
from collectors.mqtt import Broker, MqttCollector, no_order
from collectors.orders import Order, OrderDesk, place
from collectors.outbox import Outbox, OutboxError
from collectors.publisher import Publisher
from dailyread.arguments import gas_day
from dailyread.config import GatewayConfig, KafkaConfig, MqttConfig, add_config_argument, config_or_exit
from dailyread.config_checks import host_and_port
from dailyread.kafka import TopicsError, producer
from dailyread.kafka_trouble import NotReached
from dailyread.metrics_page import add_metrics_argument, serve_metrics
from dailyread.sdnotify import Notifier
from dailyread.settings import ConfigError
from dailyread.tls import FreshContext
from metering.rules import Rules, load

HELP = """Run a site gateway, until SIGTERM or Ctrl-C: ask each meter soon after the end of the Gas Day, again where it does not
answer, and for what is missing from the meter's own log; keep what it says on disk until Kafka has it. Kafka may be away for
as long as the cap of the outbox allows; what goes then is reported, and asked for again. With a stepped clock in the
configuration it runs in virtual time, and ends with it.
Exit 0: told to stop, or virtual time is over and Kafka has everything; 1: the outbox, the clock or the address of --metrics
cannot be had, or (with --once) a meter did not answer, or Kafka did not take everything; 2: the configuration is wrong."""

log = logging.getLogger(__name__)
STOP_S = 3.0
FLUSH_S = 60.0
GARBAGE_S = 600.0
ORDER_S = 3600.0  # so long may an order that came by a message wait for its meter's line


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments."""
    add_config_argument(parser)
    add_metrics_argument(parser)
    parser.add_argument("--once", action="store_true", help="ask every meter once, now, for the last Gas Day; then end")
    parser.add_argument("--since", metavar="DAY", type=gas_day, help="ask for no Gas Day before this one, e.g. 2026-10-01")


def run(args: argparse.Namespace) -> int:
    """Collect; returns the exit code."""
    config = config_or_exit(GatewayConfig, args.config)
    try:
        return asyncio.run(_collect(config, args))
    except ConfigError as error:
        print(f"{args.config or 'environment'}: {error}", file=sys.stderr)
        return 2
    except (OutboxError, OSError, ClockEnded) as error:
        print(f"dailyread collect: {error}", file=sys.stderr)
        return 1


async def _collect(config: GatewayConfig, args: argparse.Namespace) -> int:
    _allow_open_files()
    look_for_garbage_less_often()
    rules = load(config.rules.read_bytes()) if config.rules else Rules()
    clock: Clock = SystemClock() if config.clock == "system" else await RemoteClock.join(config.clock, config.gateway)
    outbox = Outbox(config.outbox_file, config.gateway, config.outbox.cap(), rules.calendar())
    evidence = EvidenceStore(config.evidence_file, config.evidence.max_bytes)
    try:
        gateway = _gateway(config, clock, outbox, rules, args.since, evidence)
        push = _pushed(config, clock, outbox, rules, evidence)
        with _publishing(config, outbox) as publisher, _listening(config, clock, outbox, rules) as mqtt:
            tell_logger = mqtt.set_interval if mqtt else no_order
            desk = OrderDesk(config.orders_folder, config.meters, gateway.at_meter, tell_logger, outbox, clock.now)
            if args.metrics:
                counters = gateway.counters, publisher.counters, outbox, mqtt.counters if mqtt else None, evidence.counters
                pushed = push.counters if push else None
                serve_metrics(args.metrics, lambda: exposition(values(*counters, pushed)))
            async with _taking(config, push):
                log.info("%s", _begins(config, outbox))
                return await _run(gateway, publisher, desk, args.once, config.clock != "system")
    finally:
        evidence.close()
        outbox.close()


def _begins(config: GatewayConfig, outbox: Outbox) -> str:
    """Who this is and whom it hears, in a line."""
    loggers = len(config.mqtt.loggers) if config.mqtt else 0
    pushing = len(config.dlms_push.meters) if config.dlms_push else 0
    kinds = ((len(config.meters), "asked"), (loggers, "behind loggers"), (pushing, "that push"))
    meters = ", ".join(f"{count} {what}" for count, what in kinds if count)
    return f"gateway {config.gateway}: meters: {meters}; {outbox.backlog().facts} facts wait on disk for Kafka"


def _gateway(
    config: GatewayConfig, clock: Clock, outbox: Outbox, rules: Rules, since: date | None, evidence: EvidenceStore
) -> Gateway:
    try:
        return Gateway(config, clock, outbox, days=rules.calendar(), since=since, evidence=evidence.keep)
    except ValueError as error:
        raise ConfigError([str(error)]) from error


def _pushed(config: GatewayConfig, clock: Clock, outbox: Outbox, rules: Rules, evidence: EvidenceStore) -> DlmsPush | None:
    """What takes what DLMS meters push, where there are any."""
    if config.dlms_push is None:
        return None
    try:
        return DlmsPush(config.dlms_push.meters, outbox, clock.now, days=rules.calendar(), evidence=evidence.keep)
    except ValueError as error:
        raise ConfigError([f"dlms_push: {error}"]) from error


@asynccontextmanager
async def _taking(config: GatewayConfig, push: DlmsPush | None) -> AsyncIterator[None]:
    if push is None or config.dlms_push is None:
        yield
        return
    await push.listen(*host_and_port(config.dlms_push.listen))
    try:
        yield
    finally:
        await push.close()


async def _run(gateway: Gateway, publisher: Publisher, desk: OrderDesk, once: bool, virtual: bool) -> int:
    loop, notifier, told = asyncio.get_running_loop(), Notifier(), asyncio.Event()

    def stop() -> None:
        told.set()
        notifier.stopping()
        gateway.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    notifier.ready()
    beside = [asyncio.create_task(job) for job in (notifier.beat(), _remove_garbage(), desk.run())]
    failed = 0
    try:
        if once:
            failed = await gateway.poll_once()
            print(_polled(gateway, failed), flush=True)
        else:
            await gateway.run()
    finally:
        for task in beside:
            task.cancel()
    emptied = await _emptied(publisher, told) if once or virtual else True
    return 0 if told.is_set() or (emptied and not failed) else 1


def _polled(gateway: Gateway, failed: int) -> str:
    """What came of asking each meter once; why a meter did not answer is in the log."""
    asked = gateway.counters.polls
    return f"{asked - failed} of {asked} meters answered: {gateway.counters.readings} readings"


async def _emptied(publisher: Publisher, told: asyncio.Event) -> bool:
    """Whether Kafka has everything: waits for it, but not for ever, and no longer than until we are told to stop."""
    deadline_s = time.monotonic() + FLUSH_S
    said = False
    while not told.is_set() and time.monotonic() < deadline_s:
        if await asyncio.to_thread(publisher.wait_empty, 0.5):
            return True
        if not said:
            log.info("waiting for Kafka to take what is stored, for up to %d s", FLUSH_S)
            said = True
    log.error("Kafka has not taken everything; the rest waits on disk, and goes with the next `dailyread collect`")
    return False


def _producer(kafka: KafkaConfig) -> KafkaProducer:
    try:
        return producer(kafka)
    except TopicsError as error:
        raise NotReached(f"{error}; `dailyread topics` makes them") from error


@contextmanager
def _publishing(config: GatewayConfig, outbox: Outbox) -> Iterator[Publisher]:
    publisher = Publisher(outbox, partial(_producer, config.kafka), route(config.kafka, config.gateway))
    publisher.start()
    try:
        yield publisher
    finally:
        publisher.stop(STOP_S)


@contextmanager
def _listening(config: GatewayConfig, clock: Clock, outbox: Outbox, rules: Rules) -> Iterator[MqttCollector | None]:
    """Take what loggers push, where there are any."""
    if config.mqtt is None:
        yield None
        return
    broker = _broker(config.mqtt, config.gateway)
    collector = MqttCollector(
        broker,
        config.gateway,
        config.mqtt.loggers,
        outbox,
        clock.now,
        days=rules.calendar(),
        confirm_s=config.mqtt.confirm_s,
        order=partial(_order, config),
    )
    collector.start()
    try:
        yield collector
    finally:
        collector.stop()


def _broker(mqtt: MqttConfig, gateway: str) -> Broker:
    host, port = host_and_port(mqtt.broker)
    files = mqtt.ca_file, mqtt.certificate_file, mqtt.key_file, mqtt.key_password
    return Broker(
        host=host,
        port=port,
        client_id=gateway,
        prefix=mqtt.topic_prefix,
        tls=FreshContext.of(*files) if mqtt.tls else None,
        user=mqtt.user,
        password=lambda: None if mqtt.password is None else mqtt.password.reveal(),
    )


def _order(config: GatewayConfig, meter: str, interval_s: int) -> None:
    """Leave an order for a meter that is polled. KeyError where there is none, OSError where the disk refuses."""
    if all(meter != known.meter for known in config.meters):
        raise KeyError(meter)
    place(config.orders_folder, Order(meter=meter, interval_s=interval_s, until=time.time() + ORDER_S, waited_for=False))


def route(kafka: KafkaConfig, gateway: str) -> Route:
    """Where this gateway's facts go."""
    return Route(
        facts_topic=kafka.topics.facts,
        broadcast_topic=kafka.topics.broadcast,
        partitions=kafka.partitions,
        gateway=gateway,
        simulated=kafka.time == "simulated",
    )


def _allow_open_files() -> None:
    """As many as the system lets us: in a bad morning all meters are asked at once."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def look_for_garbage_less_often() -> None:
    """What is loaded stays; polls make many objects, few of them in cycles. A quarter of a poll's time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


async def _remove_garbage() -> None:
    """The few cycles of each connection, some 5 KiB a poll, before they are many: a tenth of a second after 5,000 polls."""
    while True:
        await asyncio.sleep(GARBAGE_S)
        gc.collect()
