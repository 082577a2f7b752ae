"""The `dailyread` command: one module a command, loaded only when it is called."""

from __future__ import annotations

import argparse
import importlib
import logging
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo": "run 12 simulated sites for 40 Gas Days, here and now, and compare the ledger with the truth",
    "simulate": "serve simulated meters on real sockets and serial lines",
    "collect": "run a site gateway: poll the meters, keep what they say on disk, publish it to Kafka",
    "read": "read one meter now, and show what goes over its line and what it means",
    "probe": "find out what answers at an address or on a serial line",
    "set-interval": "have a meter's equipment record at another interval (M4.1.3)",
    "evidence": "show the octets from which a Gas Day's readings were taken",
    "stream": "run the stream job: apply the rules to the facts, publish the ledger",
    "store": "write the ledger from Kafka to InfluxDB",
    "provide": "give each User its readings: files in a folder, and a topic",
    "submit": "publish facts that a person enters: registrations, meters, calorific values",
    "export": "write the facts of the Kafka topic as JSON Lines",
    "replay": "compute the ledger from facts in JSON Lines",
    "explain": "say why a Gas Day's number is what it is, and who knew what when",
    "report": "tables and an HTML page with plots from a ledger",
    "status": "say what is running, what waits, what is missing today",
    "rebuild": "make InfluxDB or the state anew from the facts",
    "redrive": "put back what the stream job could not use, after a mend",
    "check": "check a configuration file; say what is wrong, where, and what would be right",
    "topics": "create and verify the Kafka topics",
}

PARTS = {
    "gateway": {"cryptography", "kafka", "pymodbus", "serial"},
    "stream": {"aiokafka", "faust", "influxdb_client", "mode", "prometheus_client", "rocksdict", "urllib3", "yarl"},
    "report": {"jinja2", "matplotlib"},
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code: 0 fine, 2 wrong input or configuration, 1 anything else."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        args = _parser(arguments[0] if arguments else "").parse_args(arguments)
    except ModuleNotFoundError as error:
        if (part := _part_of(error.name or "")) is None:
            raise
        print(f"dailyread {arguments[0]} needs {error.name}: pip install 'dailyread[{part}]'", file=sys.stderr)
        return 1
    logging.basicConfig(
        level=logging.DEBUG if args.verbose else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        stream=sys.stderr,
    )
    logging.getLogger("aiokafka").setLevel(logging.INFO)  # below that it logs whole requests, a password's among them
    try:
        return int(args.run(args))
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1


def _part_of(module: str) -> str | None:
    """The part of the installation that brings a module."""
    return next((part for part, modules in PARTS.items() if module.partition(".")[0] in modules), None)


def _parser(wanted: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="dailyread", description="Daily-read telemetry for gas meters (Section M).")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for name, summary in COMMANDS.items():
        if name != wanted:
            commands.add_parser(name, help=summary)
            continue
        module = importlib.import_module(f"dailyread.commands.{name.replace('-', '_')}")
        sub = commands.add_parser(name, help=summary, description=module.HELP)
        sub.add_argument("-v", "--verbose", action="store_true", help="log more, to standard error")
        module.add_arguments(sub)
        sub.set_defaults(run=module.run)
    return parser


if __name__ == "__main__":
    sys.exit(main())
