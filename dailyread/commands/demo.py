"""`dailyread demo`: the main job, whole, on this machine: simulated sites, real polling, the rules, a report."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import tempfile
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path

from collectors.counters import GatewayCounters
from collectors.frames import Route, pack
from collectors.gateway import Gateway
from collectors.outbox import Outbox
from dailyread.progress import Progress
from dailyread.report.compare import compare
from dailyread.report.summary import summarise
from dailyread.report.tables import console, print_report
from metering.facts import AnyFact
from metering.gasday import GasDays, to_us
from metering.rules import Rules
from simulators.clock import Participant, SteppedClock
from simulators.serve import Service, all_others_wait, ends_at, feed, serve
from simulators.sites import DEMO_SITES, Sites, SitesError, load_sites
from stream.embedded import EmbeddedJob, Frame

HELP = """Run the main job without any server: simulated meters on real sockets and serial lines, collectors that poll
them as they would poll real ones, the rules, the ledger in SQLite; Gas Days pass in virtual time. At the end: a table, a
report with plots, and the ledger beside the meters' truth, Day by Day. Exit code 1 where the ledger contradicts the truth."""

log = logging.getLogger(__name__)
GATEWAY = "demo"
PENDING_MOST = 10_000
Seen = Callable[[date, Mapping[str, int]], None]


@dataclass
class Demo:
    """One run: what is served, what the job made of it, and the instant at which it ended."""

    sites: Sites
    service: Service
    job: EmbeddedJob
    as_of: datetime

    def truth_litres(self) -> dict[tuple[str, date], int]:
        """What really was taken, by meter point and Gas Day."""
        return {
            (site.meter_point, day): self.service.meters[site.name].true_volume_l(day)
            for site in self.sites.sites
            for day in self.sites.gas_days()
        }


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--sites", metavar="FILE", type=Path, default=DEMO_SITES, help="TOML of sites (default: the demo's)")
    parser.add_argument("--days", metavar="N", type=int, help="that many Gas Days, instead of the file's")
    parser.add_argument("--html", metavar="OUT.html", type=Path, default=Path("out/demo.html"), help="default: out/demo.html")
    parser.add_argument("--state-dir", metavar="DIR", type=Path, help="keep the log, the states and the ledger there")


def run(args: argparse.Namespace) -> int:
    """Run the demo; 0 where the ledger agrees with the truth, 1 where it does not."""
    try:
        sites = load_sites(args.sites, args.days)
    except (SitesError, ValueError) as error:
        print(f"dailyread demo: {error}", file=sys.stderr)
        return 2
    if not args.verbose:  # the troubles are built in; each is in the report
        logging.getLogger().setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory(prefix="dailyread-demo-") as scratch:
        return asyncio.run(_demo(sites, args.state_dir or Path(scratch), args.html))


async def _demo(sites: Sites, directory: Path, html: Path) -> int:
    async with AsyncExitStack() as stack:
        with Progress("demo", len(sites.gas_days())) as progress:
            demo = await stack.enter_async_context(embedded_run(sites, directory, progress.update))
        return _report(demo, html)


@asynccontextmanager
async def embedded_run(sites: Sites, directory: Path, seen: Seen) -> AsyncIterator[Demo]:
    """Let the sites' Gas Days pass, all in this process; gives the run when they have passed, its job still open.

    `seen` is told the Gas Day and the counts as they go on. `directory` takes the job's files.
    """
    days = GasDays()
    clock = SteppedClock(sites.starts_at())
    async with AsyncExitStack() as stack:
        service = await serve(sites.sites, clock.now, days=days)
        stack.push_async_callback(service.close)
        job = EmbeddedJob(directory, Rules())
        stack.callback(job.close)
        demo = Demo(sites, service, job, ends_at(sites, days))
        await _collect(demo, clock, directory, days, seen)
        yield demo


async def _collect(demo: Demo, clock: SteppedClock, directory: Path, days: GasDays, seen: Seen) -> None:
    """Let the Gas Days pass: collectors poll into the outbox, and the job takes what is in it, as it would from Kafka."""
    outbox = Outbox(directory / "outbox.sqlite", GATEWAY)
    gas_days = demo.sites.gas_days()
    me = clock.join("demo")
    gateway = Gateway(demo.service.gateway(GATEWAY), clock.join(GATEWAY), outbox, days=days, since=demo.sites.first_day)
    polling = asyncio.create_task(gateway.run())
    running = asyncio.create_task(clock.run(expected=2))
    try:

        async def give(facts: list[AnyFact], received_at: datetime) -> None:
            await all_others_wait_or_end(clock, me, polling)
            outbox.put(facts, received_at)
            drain(outbox, demo.job)
            today = date.fromordinal(days.day_of(to_us(received_at)))
            seen(min(max(today, gas_days[0]), gas_days[-1]), _counts(gateway.counters, demo.job))

        await feed(demo.sites, me, give, days)
        gateway.stop()
        await polling
        drain(outbox, demo.job)
    finally:
        polling.cancel()
        running.cancel()
        outbox.close()


async def all_others_wait_or_end(clock: SteppedClock, me: Participant, polling: asyncio.Task[None]) -> None:
    """Wait for the collectors to have done what they do at this instant; raise what ended them."""
    waiting = asyncio.create_task(all_others_wait(clock, me))
    await asyncio.wait([waiting, polling], return_when=asyncio.FIRST_COMPLETED)
    if polling.done():
        waiting.cancel()
        polling.result()


def drain(outbox: Outbox, job: EmbeddedJob) -> None:
    """Give what waits in the outbox to the job; it leaves the outbox once the job has it on disk."""
    while pending := outbox.pending(PENDING_MOST):
        route = Route(facts_topic="facts", broadcast_topic="broadcast", partitions=1, gateway=GATEWAY, simulated=True)
        by_time = sorted(pending, key=lambda stored: stored.committed_at)
        frames = [
            Frame(stored.committed_at, message.value)
            for stored in by_time
            for message in pack([stored], route)
        ]  # fmt: skip
        job.take(frames)
        outbox.acknowledge([stored.id for stored in pending])


def _counts(counters: GatewayCounters, job: EmbeddedJob) -> dict[str, int]:
    return {"polls": counters.polls, "failed polls": counters.failed, "readings": counters.readings, "records": job.records}


def _report(demo: Demo, html: Path) -> int:
    summary = summarise(demo.job.ledger.records(), demo.as_of)
    truth = demo.truth_litres()
    comparisons = compare(summary, truth)
    print_report(console(sys.stdout), summary, comparisons)
    try:
        from dailyread.report.html import write_page

        html.parent.mkdir(parents=True, exist_ok=True)
        write_page(html, summary, truth)
        print(f"\nThe report with plots: {html}")
    except ImportError as error:
        print(f"\nNo report with plots: it needs {error.name}: pip install 'dailyread[report]'", file=sys.stderr)
    for letter in demo.job.dead:
        print(f"dead letter: {letter.reason}", file=sys.stderr)
    return 0 if all(row.agrees for row in comparisons) and not demo.job.dead else 1
