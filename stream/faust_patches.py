"""Where faust-streaming 0.15.3 would lose data or take too long, and what replaces it there. Each class says why.

Subclasses of its inside, so pinned to one version: `check_versions` refuses any other, because what is overridden here may
have changed. The rest of what we do without stands in `app.py`: its acknowledgements, commits, table writes, web server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Protocol

import faust
from faust.assignor.partition_assignor import PartitionAssignor
from faust.stores.memory import Store
from faust.tables.manager import TableManager
from faust.tables.recovery import Recovery
from faust.transport.drivers.aiokafka import Consumer, Transport
from faust.types import TP
from yarl import URL

from stream.faults import end_at_once
from stream.marks import offset_of
from stream.state_file import StateFile, StateFileInUse, state_file_path

PINNED = {"faust-streaming": "0.15.3", "aiokafka": "0.14.0"}

IN_USE_S = 30  # how long a worker that is being stopped may still have a partition's states
FULL_S = 0.01  # how soon to look again whether a partition that had enough wants more

Starts = Mapping[int, int]  # partition -> offset of the first frame that is not done
Ready = Callable[[Starts], Awaitable[None]]


class WrongVersion(RuntimeError):
    """A library is not of the version that this module was written for."""


def check_versions() -> None:
    """Raises WrongVersion unless the libraries are those that were read and measured."""
    for name, wanted in PINNED.items():
        if (found := version(name)) != wanted:
            raise WrongVersion(f"{name} is {found}, but stream/faust_patches.py is written for {wanted}: install that")


class SteadyConsumer(Consumer):  # type: ignore[misc]
    """Asks the fetcher for the partitions that were active when it asked, and takes the facts past Faust's streams.

    Faust hands the fetcher its own set of active partitions, which recovery then changes while the fetcher waits. An
    emptied set means "all" to aiokafka: it hands out frames of paused partitions, Faust throws them away, and the
    position has moved past them.

    A message in a stream costs Faust some 150 us, for what is not used here: channels, acknowledgements, sensors. So what
    the fetcher has of the facts is given to `intake`, a list for each partition, under the same conditions as Faust would
    deliver it: no rebalance meanwhile, and the partition is active. What is dropped otherwise is read again, because
    recovery, which follows, seeks. Where a partition has enough for now it is not asked for. The changelog goes Faust's way.

    Whoever seeks holds `fetching`. A request that was made before a rebalance may wait until after it; it would take what
    comes from the new position on, be dropped for its age, and leave a hole: in the facts, or in the states of the changelog.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fetching = asyncio.Lock()  # held from asking the fetcher until what it had is handed over

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:
        asked = frozenset(active_partitions or ())
        intake: Intake = self.transport.intake
        active = frozenset(tp for tp in asked if intake.wants(tp))
        if not active:
            await asyncio.sleep(FULL_S if asked else 0)
            return {}
        async with self.fetching:
            generation_id = self.app.consumer_generation_id
            found = await self._thread.getmany(active, timeout if active == asked else FULL_S)
            is_valid = self.flow_active and generation_id == self.app.consumer_generation_id
            others = {}
            for tp, records in found.items():
                if not intake.takes(tp):
                    others[tp] = records
                elif is_valid and tp in self._active_partitions:
                    intake.take(tp, records)
            return others


class Intake(Protocol):
    """Takes the messages of the facts topic."""

    def takes(self, tp: TP) -> bool:
        """Whether it is a partition of the facts topic."""

    def wants(self, tp: TP) -> bool:
        """Whether messages of a partition are to be fetched now."""

    def take(self, tp: TP, messages: Sequence[Any]) -> None:
        """The next messages of a partition of the facts topic, as aiokafka gives them."""


class SteadyTransport(Transport):  # type: ignore[misc]
    """The transport of SteadyConsumer."""

    Consumer = SteadyConsumer

    def __init__(self, app: faust.App, intake: Intake) -> None:
        super().__init__(app.conf.broker_consumer, app)
        self.intake = intake


class OrderedRecovery(Recovery):  # type: ignore[misc]
    """Lets the facts flow only when all is in its place.

    Faust resumes the partitions, then seeks, then clears the queues: frames that were fetched in between are gone. It
    also seeks only where something was committed, so that a partition's first frames can be skipped.
    """

    async def on_recovery_completed(self, generation_id: int = 0) -> None:
        """Seek, clear, hand the partitions over, and only then resume them."""
        consumer = self.app.consumer
        self._set_recovery_ended()
        facts = {tp for tp in consumer.assignment() if not self._is_changelog_tp(tp)}
        if self.app.consumer_generation_id != generation_id:
            return  # rebalanced again: the next recovery does it
        starts = await self._starts(facts) if facts else {}
        async with consumer.fetching:
            await self._wait(consumer.seek_wait(starts), timeout=self.app.conf.broker_request_timeout)
        self.app.flow_control.resume()  # clears the queues
        await self.tables.ready({tp.partition: offset for tp, offset in starts.items()})
        if self.app.consumer_generation_id != generation_id:
            return
        consumer.resume_partitions(facts)
        self.completed.set()
        consumer.resume_flow()
        await self.app._fetcher.maybe_start()
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        self.app.on_rebalance_end()

    async def _seek_offsets(self, consumer: Any, tps: set[TP], offsets: Any, title: str) -> None:
        """Seek in the changelog when no request of before is under way."""
        async with consumer.fetching:
            await super()._seek_offsets(consumer, tps, offsets, title)

    async def _starts(self, facts: set[TP]) -> dict[TP, int]:
        consumer = self.app.consumer
        committed = await consumer.seek_to_committed()
        earliest = await consumer.earliest_offsets(*facts)
        found = {tp: committed.get(tp) for tp in facts}
        return {tp: earliest[tp] if offset is None or offset < 0 else offset for tp, offset in found.items()}


class WholeAssignor(PartitionAssignor):  # type: ignore[misc]
    """Shares out all partitions of the facts and of the changelog, whatever the broker has said of them so far.

    A broker that has just started may know no topic yet, or some of them. Faust goes by what it says when the group is
    shared out: then nobody has any partitions until the metadata is asked for again, minutes later; or somebody has facts
    without the changelog, and would work on states that are not recovered. Both topics have `topic_partitions` each.
    """

    def _get_copartitioned_groups(self, topics: set[str], cluster: Any, subscriptions: Any) -> Any:
        return {self.app.conf.topic_partitions: self._group_co_subscribed(topics, subscriptions)}


class OrderedTables(TableManager):  # type: ignore[misc]
    """Makes OrderedRecovery. `ready` is called with where each facts partition starts, before its first frame."""

    ready: Ready
    _recovery: OrderedRecovery | None

    @property
    def recovery(self) -> OrderedRecovery:
        """The recovery service, made when first asked for."""
        if self._recovery is None:
            self._recovery = OrderedRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery


class StateStore(Store):  # type: ignore[misc]
    """Keeps the states of each partition in a StateFile, and of one key that which rests on the greatest `facts` offset.

    Faust's own, in RocksDB, would keep the last one, which may be a late write of a worker that had already lost the
    partition; and it costs the more the more states there are. A failure ends the process: recovery would log it, and wait for
    ever.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._files: dict[int, StateFile] = {}
        self._closed = False

    def file(self, partition: int) -> StateFile:
        """A partition's file, opened when it is first asked for."""
        if partition not in self._files:
            self._files[partition] = StateFile(state_file_path(Path(self.app.conf.datadir), partition))
        return self._files[partition]

    def persisted_offset(self, tp: TP) -> int | None:
        """The offset in the changelog up to which the states are there."""
        return None if self._closed else self.file(tp.partition).position

    def set_persisted_offset(self, tp: TP, offset: int) -> None:
        """They are there up to this offset."""
        if not self._closed:
            self.file(tp.partition).write([], offset)

    async def on_rebalance(
        self, assigned: set[TP], revoked: set[TP], newly_assigned: set[TP], generation_id: int = 0
    ) -> None:  # fmt: skip
        """Close the files of partitions that are no longer ours, and open those of new ones."""
        if self._closed:
            return
        await self._close(tp.partition for tp in revoked if tp.topic in self.table.changelog_topic.topics)
        for tp in newly_assigned:
            if tp.topic in self.table.changelog_topic.topics:
                await self._open(tp.partition)

    def apply_changelog_batch(self, batch: Iterable[Any], to_key: Any, to_value: Any) -> None:
        """Bring the files up to these changelog records."""
        if self._closed:
            return
        try:
            for partition, records in _by_partition(batch).items():
                self._apply(self.file(partition), records)
        except Exception as error:
            end_at_once("the changelog cannot be applied to the state on disk", error)

    def _apply(self, file: StateFile, records: list[Any]) -> None:
        newest: dict[bytes, bytes] = {}
        for record in records:
            known = newest.get(record.key) or file.get(record.key)
            if known is None or offset_of(record.value) >= offset_of(known):
                newest[record.key] = record.value
        file.write([*newest.items()], max(record.offset for record in records))

    async def close(self) -> None:
        """Close all files, for good."""
        self._closed = True
        await self._close([*self._files])

    async def _open(self, partition: int) -> None:
        for _ in range(IN_USE_S):
            try:
                self.file(partition)
                return
            except StateFileInUse as error:
                self.log.warning("%s; trying again", error)
                await asyncio.sleep(1)
        self.file(partition)

    async def _close(self, partitions: Iterable[int]) -> None:
        files = [file for each in partitions if (file := self._files.pop(each, None)) is not None]
        await asyncio.gather(*(asyncio.to_thread(file.close) for file in files))


class StateTable(faust.Table):  # type: ignore[misc]
    """A table in a StateStore."""

    def _new_store(self) -> StateStore:
        return StateStore(
            URL("memory://"),
            self.app,
            self,
            table_name=self.name,
            key_type=bytes,
            key_serializer="raw",
            value_type=bytes,
            value_serializer="raw",
        )


def _by_partition(batch: Iterable[Any]) -> dict[int, list[Any]]:
    records: dict[int, list[Any]] = {}
    for event in batch:
        if event.message.value is not None:  # nobody deletes states
            records.setdefault(event.message.partition, []).append(event.message)
    return records


async def wait_crashed(app: faust.App) -> BaseException | None:
    """Returns when the app, or a service of it, has crashed; with the reason."""
    while not (app.crashed or app.should_stop):
        await asyncio.sleep(0.1)
    return app.crash_reason  # type: ignore[no-any-return]
