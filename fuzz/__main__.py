"""Fuzz the decoders: a coverage-guided search for octets that give anything but an event, a value or a typed error.

    python -m fuzz [--seconds 60] [TARGET...]        each target in turn; all of them where none is named
    python -m fuzz TARGET --input FILE               one input again, with its traceback

What was found worth keeping stays in `.cache/fuzz/TARGET`, and the next run begins with it. An input that fails, or takes
longer than `SECONDS_EACH` or more memory than `MEMORY_MIB`, is kept there too, under `failed-`; then the exit code is 1.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

TARGETS = ("wire", "modbus", "iec62056_21", "iec62056_21_data", "dlms_link", "dlms_messages", "dlms_association", "mqtt")
CORPUS = Path(".cache/fuzz")
SECONDS_EACH = 5
MEMORY_MIB = 1024
LENGTH_MAX = 2048


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__.splitlines()[0])
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"one of {', '.join(TARGETS)}")
    parser.add_argument("--seconds", type=int, default=60, help="how long each (60)")
    parser.add_argument("--input", type=Path, help="try this one input, and nothing else")
    parser.add_argument("--search", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if unknown := set(args.targets) - set(TARGETS):
        parser.error(f"no such target: {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    if args.search:
        search(args.targets[0], args.seconds)
    elif args.input:
        _load(args.targets[0]).decode(args.input.read_bytes())
    else:
        return sum(_run(target, args.seconds) for target in args.targets or TARGETS) and 1
    return 0


def _run(target: str, seconds: int) -> int:
    """One target in a process of its own, for libFuzzer ends the process; 1 where it failed."""
    print(f"== {target}, {seconds} s", flush=True)
    command = [sys.executable, "-m", "fuzz", target, "--search", "--seconds", str(seconds)]
    failed = subprocess.run(command, check=False).returncode != 0
    for path in sorted((CORPUS / target).glob("failed-*")) if failed else ():
        print(f"failed: python -m fuzz {target} --input {path}", flush=True)
    return int(failed)


def _load(target: str):  # type: ignore[no-untyped-def]
    return __import__(f"fuzz.{target}", fromlist=["decode"])


def search(target: str, seconds: int) -> None:
    """Let libFuzzer look for `seconds`; does not return."""
    import atheris

    with atheris.instrument_imports(include=["collectors", "metering"]):
        module = _load(target)
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(module.SEEDS):
        (folder / f"seed-{number:03}").write_bytes(seed)
    options = {
        "max_total_time": seconds,
        "max_len": LENGTH_MAX,
        "timeout": SECONDS_EACH,
        "rss_limit_mb": MEMORY_MIB,
        "artifact_prefix": f"{folder}/failed-",
        "verbosity": 0,
        "print_final_stats": 1,
    }
    atheris.Setup([target, *(f"-{name}={value}" for name, value in options.items()), str(folder)], module.decode)
    atheris.Fuzz()


if __name__ == "__main__":
    sys.exit(main())
