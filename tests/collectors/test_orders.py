"""Orders to a gateway that runs: done once, answered, recorded as facts, and none that nobody waits for any more."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from collectors.orders import Answer, Order, OrderDesk, answer_to, place, set_interval
from collectors.outbox import Outbox
from collectors.reader import Unable, Unanswered
from metering.facts import IntervalSet
from tests.patience import patient


class Meter(NamedTuple):
    meter_point: str
    meter: str


class Equipment:
    """What is used of a reader; `says` is what it reads back, or an error."""

    def __init__(self, says: int | Exception) -> None:
        self.says = says
        self.told: list[int] = []
        self.lock = asyncio.Lock()

    async def set_interval(self, interval_s: int) -> int:
        self.told.append(interval_s)
        if isinstance(self.says, Exception):
            raise self.says
        return self.says


class Site:
    """A gateway's readers, each with its line."""

    def __init__(self, **equipment: Equipment) -> None:
        self.equipment = equipment
        self.loggers: dict[str, int] = {"L1": 3600}

    def tell_logger(self, logger: str, interval_s: int) -> None:
        self.loggers[logger]  # KeyError
        self.loggers[logger] = interval_s

    async def at_meter(self, meter: str, work: Callable[[Any], Awaitable[Any]]) -> Any:
        async with self.equipment[meter].lock:
            return await work(self.equipment[meter])


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    with closing(Outbox(tmp_path / "outbox.sqlite", "gateway-1")) as opened:
        yield opened


def order(meter: str, interval_s: int = 360, for_s: float = patient(20), **more: Any) -> Order:
    return Order(meter=meter, interval_s=interval_s, until=time.time() + for_s, **more)


def facts(outbox: Outbox) -> list[Any]:
    return [entry.fact for entry in outbox.pending(100)]


async def with_desk(folder: Path, site: Site, outbox: Outbox, work: Callable[[], Awaitable[None]]) -> None:
    meters: list[Any] = [Meter(f"MP-{name}", name) for name in site.equipment]
    desk = OrderDesk(folder, meters, site.at_meter, site.tell_logger, outbox, lambda: datetime.now(UTC))
    running = asyncio.create_task(desk.run())
    try:
        await asyncio.wait_for(work(), patient(20))
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


async def told(folder: Path, given: Order) -> Answer:
    path = await asyncio.to_thread(place, folder, given)
    return await asyncio.to_thread(answer_to, path, given)


OUTCOMES = {
    "confirmed": (360, Answer(interval_s=360), True),
    "another": (3600, Answer(interval_s=3600), False),
    "silent": (Unanswered("MP-a", "nothing came"), Answer(error="MP-a: nothing came"), False),
    "unable": (Unable("MP-a", "no way"), Answer(error="MP-a: no way"), None),
}


@pytest.mark.parametrize(("says", "answer", "confirmed"), OUTCOMES.values(), ids=OUTCOMES)
def test_an_order_is_done_answered_and_recorded(
    tmp_path: Path, outbox: Outbox, says: int | Exception, answer: Answer, confirmed: bool | None
) -> None:
    site = Site(a=Equipment(says), b=Equipment(900))

    async def work() -> None:
        assert await told(tmp_path / "orders", order("a")) == answer

    asyncio.run(with_desk(tmp_path / "orders", site, outbox, work))
    expected = [] if confirmed is None else [IntervalSet(meter_point="MP-a", interval_s=360, confirmed=confirmed)]
    assert facts(outbox) == expected
    assert (site.equipment["a"].told, site.equipment["b"].told) == ([360], [])
    assert list((tmp_path / "orders").iterdir()) == []


def test_orders_wait_for_a_gateway_that_starts_and_for_a_line_but_not_for_each_other(tmp_path: Path, outbox: Outbox) -> None:
    site = Site(a=Equipment(360), b=Equipment(360))
    slow, quick = order("a"), order("b")
    paths = [place(tmp_path / "orders", each) for each in (slow, quick)]

    async def work() -> None:
        async with site.equipment["a"].lock:
            assert await asyncio.to_thread(answer_to, paths[1], quick) == Answer(interval_s=360)
            assert site.equipment["a"].told == []
        assert await asyncio.to_thread(answer_to, paths[0], slow) == Answer(interval_s=360)

    asyncio.run(with_desk(tmp_path / "orders", site, outbox, work))


def test_an_order_that_is_over_is_not_done(tmp_path: Path, outbox: Outbox) -> None:
    site = Site(a=Equipment(360))
    given = order("a", for_s=-1)
    path = place(tmp_path / "orders", given)

    async def work() -> None:
        while path.exists():
            await asyncio.sleep(0.05)

    asyncio.run(with_desk(tmp_path / "orders", site, outbox, work))
    assert (site.equipment["a"].told, facts(outbox)) == ([], [])
    assert "was not free in time" in answer_to(path, given).error


def test_an_order_to_a_logger_that_is_over_is_not_done(tmp_path: Path, outbox: Outbox) -> None:
    site = Site()
    site.loggers["L1"] = 0
    given = order("L1", for_s=-1)
    path = place(tmp_path / "orders", given)

    async def work() -> None:
        while path.exists():
            await asyncio.sleep(0.05)

    asyncio.run(with_desk(tmp_path / "orders", site, outbox, work))
    assert site.loggers == {"L1": 0}
    assert "no gateway ran in time" in answer_to(path, given).error


def test_nobody_waits_for_ever_where_no_gateway_answers(tmp_path: Path) -> None:
    given = order("a", for_s=0.2)
    path = place(tmp_path / "orders", given)
    assert "did not answer in time" in answer_to(path, given).error
    assert not path.exists()


def test_a_meter_nobody_knows_and_what_is_no_order_hold_nothing_up(
    tmp_path: Path, outbox: Outbox, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tmp_path / "orders"
    folder.mkdir()
    for number, octets in enumerate((b"\xff", b"{}", b'{"meter": "a", "interval_s": 60, "until": 9e9}')):
        (folder / f"{number}.order").write_bytes(octets)

    async def work() -> None:
        assert 'no meter "x"' in (await told(folder, order("x"))).error
        assert await told(folder, order("a")) == Answer(interval_s=360)

    asyncio.run(with_desk(folder, Site(a=Equipment(360)), outbox, work))
    assert len([message for message in caplog.messages if "is no order" in message]) == 3
    assert list(folder.iterdir()) == []


def test_an_order_nobody_waits_for_leaves_no_answer(tmp_path: Path, outbox: Outbox) -> None:
    path = place(tmp_path / "orders", order("a", waited_for=False))

    async def work() -> None:
        while path.exists():
            await asyncio.sleep(0.05)

    asyncio.run(with_desk(tmp_path / "orders", Site(a=Equipment(360)), outbox, work))
    assert len(facts(outbox)) == 1
    assert list((tmp_path / "orders").iterdir()) == []


def test_a_logger_is_told_and_says_later_whether_it_confirms(tmp_path: Path, outbox: Outbox) -> None:
    site = Site()

    async def work() -> None:
        assert await told(tmp_path / "orders", order("L1")) == Answer()

    asyncio.run(with_desk(tmp_path / "orders", site, outbox, work))
    assert (site.loggers, facts(outbox)) == ({"L1": 360}, [])


def test_a_fault_of_ours_is_an_answer(tmp_path: Path, outbox: Outbox) -> None:
    async def work() -> None:
        assert "RuntimeError: oh" in (await told(tmp_path / "orders", order("a"))).error

    asyncio.run(with_desk(tmp_path / "orders", Site(a=Equipment(RuntimeError("oh"))), outbox, work))


def test_the_reader_is_asked_for_what_the_order_says() -> None:
    equipment: Any = Equipment(1800)
    meter: Any = Meter("MP-a", "a")
    answer, fact = asyncio.run(set_interval(meter, equipment, 1800))
    assert answer == Answer(interval_s=1800)
    assert fact == IntervalSet(meter_point="MP-a", interval_s=1800, confirmed=True)
