"""The Faust app: it shares the partitions among the workers, keeps the states and their changelog, and recovers.

Frames come from its fetcher (`SteadyConsumer`), past its streams and agents. Of what else it offers nothing is used, because
it would lose data: its acknowledgements and commits (`FactsApp.commit` commits what is done), its table writes (`States`),
timers, exactly-once, models, standby replicas, the web server.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import faust
from faust.types import TP
from yarl import URL

from storage.fact_store import fact_store_path
from stream.faults import FreezeGuard
from stream.faust_patches import OrderedTables, StateTable, SteadyTransport, WholeAssignor, check_versions
from stream.metrics import METRICS
from stream.opening import Opened, Opening, instant_of_ms
from stream.partition import Frame, Partition
from stream.settings import STATES, WorkerSettings
from stream.sink import Sink
from stream.state_file import state_file_path
from stream.states import States

log = logging.getLogger(__name__)

MakeProcessor = Callable[[int, Mapping[str, bytes]], Opened]

_REVOKE_COMMIT_S = 2.0


class InsecureKafka(ValueError):
    """Faust would connect in another way than it was told to."""


class FactsApp:
    """The Faust app and the partitions that it has been given. `make` makes a partition's processor and fact store."""

    def __init__(self, settings: WorkerSettings, make: MakeProcessor, sink: Sink, guard: FreezeGuard) -> None:
        check_versions()
        self.partitions: dict[int, Partition] = {}
        self.recovered = False
        self._settings = settings
        self._make = make
        self._sink = sink
        self._guard = guard
        self.app = _faust_app(settings)
        self.app.transport = SteadyTransport(self.app, self)
        self.app.tables.ready = self._open
        table = StateTable(self.app, name=STATES, partitions=settings.partitions, key_type=bytes, value_type=bytes)
        self._states = self.app.tables.add(table)
        self.app.on_partitions_revoked.connect(self._revoked)
        facts = self.app.topic(settings.topics.facts, value_type=bytes, value_serializer="raw", acks=False, allow_empty=True)
        self.app.topics.add(facts)  # subscribes to it; what comes goes to `take`

    def lag(self, partition: int) -> int | None:
        """How many frames of the partition are not done; None before the broker has said."""
        highwater = self.app.consumer.highwater(TP(self._settings.topics.facts, partition))
        return None if highwater is None else max(0, int(highwater) - self.partitions[partition].position)

    def sizes_bytes(self, partition: int) -> tuple[int, int]:
        """How large the files of a partition's states and of its fact store are."""
        states = state_file_path(self._settings.state_dir, partition)
        facts = fact_store_path(self._settings.state_dir, partition)
        return _size_bytes(states), _size_bytes(facts)

    def recovery_lag(self) -> int:
        """How many changelog records are still to be read before work can begin; 0 when it has."""
        recovery = self.app.tables.recovery
        return int(recovery.active_remaining_total()) if recovery.in_recovery else 0

    async def commit(self) -> None:
        """Tell the broker how far all is done. It refuses a worker that has lost its partitions."""
        positions = {TP(self._settings.topics.facts, each.number): each.position for each in self.partitions.values()}
        self._guard.check()
        if positions:
            await self.app.consumer._thread.commit(positions)

    async def close(self) -> None:
        """Stop working on the partitions, and commit what is done."""
        await self._revoked(None)

    async def close_files(self) -> None:
        """Bring the states to the disk, where they outlive the machine's end, too. Nothing is worked on any more."""
        await self._states.data.close()

    def takes(self, tp: TP) -> bool:
        """Whether it is a partition of the facts topic."""
        return bool(tp.topic == self._settings.topics.facts)

    def wants(self, tp: TP) -> bool:
        """Whether messages of a partition are to be fetched now."""
        if not self.takes(tp):
            return True
        partition = self.partitions.get(tp.partition)
        return partition is not None and partition.wants

    def take(self, tp: TP, messages: Sequence[Any]) -> None:
        """The next messages of a partition of the facts topic."""
        partition = self.partitions.get(tp.partition)
        if partition is not None:
            partition.accept([Frame(each.offset, instant_of_ms(each.timestamp), each.value or b"") for each in messages])

    async def _open(self, starts: Mapping[int, int]) -> None:
        """The states are recovered, and the frames will come from `starts` on."""
        await self._close()
        METRICS.rebalances.inc()
        for number, start in sorted(starts.items()):
            self.partitions[number] = self._opened(number, start)
        METRICS.owned_partitions.set(len(starts))
        self.recovered = True
        log.info("working on %s", ", ".join(f"facts[{n}] from {start}" for n, start in sorted(starts.items())) or "nothing")

    def _opened(self, number: int, start: int) -> Partition:
        settings = self._settings
        states = States(lambda: self._states.data.file(number), settings.changelog, number, self._sink)
        opening = Opening(settings.kafka, settings.topics.facts, number, partial(self._make, number, states))
        partition = Partition(number, start, settings.topics, self._sink, self._guard)
        partition.open(states, opening)
        METRICS.halted.labels(number).set(0)
        METRICS.stalled.labels(number).set(0)
        return partition

    async def _revoked(self, _sender: Any, *_: Any, **__: Any) -> None:
        self.recovered = False
        await self._stop_working()
        try:
            await asyncio.wait_for(self.commit(), _REVOKE_COMMIT_S)
        except TimeoutError:
            log.warning("the broker did not take the last positions; some frames will be read again")
        await self._close()

    async def _stop_working(self) -> None:
        await asyncio.gather(*(partition.close() for partition in self.partitions.values()))

    async def _close(self) -> None:
        await self._stop_working()
        for number in self.partitions:
            METRICS.forget(number)
        self.partitions.clear()
        METRICS.owned_partitions.set(0)


def _size_bytes(folder: Path) -> int:
    """Of the files in a folder; 0 where there is none."""
    size_bytes = 0
    for path in folder.glob("*"):
        with suppress(FileNotFoundError):  # gone meanwhile
            size_bytes += path.stat().st_size
    return size_bytes


def _faust_app(settings: WorkerSettings) -> faust.App:
    servers = settings.aiokafka["bootstrap_servers"]
    return faust.App(
        settings.group,
        broker=[URL(f"kafka://{server}") for server in servers],
        broker_credentials=credentials(settings),
        broker_client_id=f"{settings.group}-{settings.instance}",
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.session_timeout_s / 6,
        broker_rebalance_timeout=3 * settings.session_timeout_s,
        consumer_group_instance_id=settings.instance,
        consumer_auto_offset_reset="earliest",
        processing_guarantee="at_least_once",
        datadir=settings.state_dir,
        PartitionAssignor=WholeAssignor,
        TableManager=OrderedTables,
        table_standby_replicas=0,
        topic_allow_declare=False,
        topic_disable_leader=True,
        topic_partitions=settings.partitions,
        stream_wait_empty=False,
        web_enabled=False,
        canonical_url=URL(f"http://{settings.instance}"),  # a name, not an address: nobody serves it
        autodiscover=False,
    )


def credentials(settings: WorkerSettings) -> Any:
    """Faust's credentials (None for plain text). InsecureKafka where they would not do what the settings say."""
    options = settings.aiokafka
    wanted = options.get("security_protocol", "PLAINTEXT")
    context = options.get("ssl_context")
    if "sasl_mechanism" in options:
        found: Any = faust.SASLCredentials(
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            mechanism=options["sasl_mechanism"],
            ssl_context=context,
        )
    else:
        found = faust.SSLCredentials(context) if context is not None else None
    is_protocol = "PLAINTEXT" if found is None else found.protocol.value
    if is_protocol != wanted:  # without a context Faust would send the password in the clear, and say nothing
        raise InsecureKafka(f"security_protocol is {wanted}, but Faust would use {is_protocol}: is ssl_context missing?")
    return found
