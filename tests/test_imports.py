"""Who may import whom, as data; and what the rules' package may never touch: a clock, input or output, a log."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Package -> what of ours it may import besides itself: a package, or one module of it. The simulators take from the
# collectors only what does no input or output, so that both sides of a protocol share its tables.
OURS = {
    "metering": set(),
    "collectors": {"metering"},
    "storage": {"metering"},
    "stream": {"metering", "storage"},
    "simulators": {"metering", "collectors"},
    "dailyread": {"metering", "collectors", "storage", "stream", "simulators"},
}

# Package -> what it may import of others', besides the standard library. It keeps a gateway free of Faust and RocksDB.
OTHERS = {
    "metering": {"msgspec", "holidays"},
    "collectors": {"msgspec", "cryptography", "kafka", "paho", "pymodbus", "serial"},
    "storage": {"msgspec", "influxdb_client", "rocksdict", "urllib3"},
    "stream": {"msgspec", "aiokafka", "faust", "kafka", "lmdb", "lz4", "mode", "prometheus_client", "yarl"},
    "simulators": {"msgspec", "paho", "pymodbus"},
    "dailyread": {"msgspec", "kafka", "rich", "jinja2", "markupsafe", "matplotlib"},
}

# What the rules may use of the standard library: nothing that knows the time, reads, writes or logs.
PURE = {
    "__future__", "array", "base64", "bisect", "collections", "dataclasses", "datetime", "decimal", "enum", "fractions",
    "functools", "hashlib", "heapq", "itertools", "math", "operator", "random", "re", "struct", "types", "typing", "zoneinfo",
}  # fmt: skip
IMPURE_CALLS = {"now", "utcnow", "today", "open", "print", "input"}

# Command -> the parts (extras) that it must do with. The standard installation has none of them.
COMMAND_EXTRAS = {
    "demo": {"gateway", "report", "stream"},
    "simulate": {"gateway"},
    "collect": {"gateway"},
    "read": {"gateway"},
    "probe": {"gateway"},
    "set_interval": {"gateway"},
    "evidence": {"gateway"},
    "submit": {"gateway"},
    "topics": {"gateway"},
    "export": {"gateway"},
    "redrive": {"gateway"},
    "status": {"gateway"},
    "stream": {"stream"},
    "store": {"gateway", "stream"},
    "provide": {"gateway"},
    "rebuild": {"gateway", "stream"},
    "check": set(),
    "replay": set(),
    "explain": set(),
    "report": {"report"},
}
EXTRA_MODULES = {
    "gateway": {"cryptography", "kafka", "paho", "pymodbus", "serial"},
    "stream": {"aiokafka", "faust", "influxdb_client", "kafka", "lmdb", "lz4", "prometheus_client", "rocksdict"},
    "report": {"jinja2", "matplotlib"},
}


@dataclass(frozen=True)
class Import:
    """One imported module, and where."""

    module: str
    where: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def within(self, allowed: set[str]) -> bool:
        """Whether it is one of these packages or modules, or inside one."""
        return any(self.module == name or self.module.startswith(f"{name}.") for name in allowed)


def sources(package: str) -> list[Path]:
    return sorted((ROOT / package).rglob("*.py"))


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(), str(path))


def where(path: Path, node: ast.stmt | ast.expr) -> str:
    return f"{path.relative_to(ROOT)}:{node.lineno}"


def imports(package: str) -> Iterator[Import]:
    """All imports of a package's modules, those inside functions too."""
    for path in sources(package):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Import):
                yield from (Import(alias.name, where(path, node)) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{where(path, node)}: write the import with its package's name"
                yield from _from(node, where(path, node))


def _from(node: ast.ImportFrom, place: str) -> Iterator[Import]:
    """`from package import name`: the name may be a module of it."""
    assert node.module is not None
    for alias in node.names:
        folder = ROOT / node.module.replace(".", "/") / alias.name
        is_module = folder.is_dir() or folder.with_suffix(".py").exists()
        yield Import(f"{node.module}.{alias.name}" if is_module else node.module, place)


def test_every_package_is_in_the_table() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/__init__.py")} - {"tests", "benchmarks"}
    assert packages == set(OURS) == set(OTHERS)
    assert all(sources(package) for package in packages)


@pytest.mark.parametrize("package", OURS)
def test_imports_of_ours_follow_the_table(package: str) -> None:
    allowed = {package, *OURS[package]}
    wrong = [f"{one.where}: {one.module}" for one in imports(package) if one.top in OURS and not one.within(allowed)]
    assert wrong == []


@pytest.mark.parametrize("package", OTHERS)
def test_imports_of_others_follow_the_table(package: str) -> None:
    allowed = {*OURS, *OTHERS[package], *sys.stdlib_module_names}
    assert [f"{one.where}: {one.module}" for one in imports(package) if one.top not in allowed] == []


def test_rules_use_no_clock_no_io_no_log() -> None:
    allowed = PURE | OTHERS["metering"] | {"metering"}
    assert [f"{one.where}: {one.module}" for one in imports("metering") if one.top not in allowed] == []


def test_rules_call_no_clock_and_nothing_that_reads_or_writes() -> None:
    wrong = []
    for path in sources("metering"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Call):
                name = getattr(node.func, "attr", getattr(node.func, "id", ""))
                if name in IMPURE_CALLS:
                    wrong.append(f"{where(path, node)}: {name}()")
    assert wrong == []


def test_rules_throw_no_dice_but_those_handed_in_as_a_seed() -> None:
    for path in sources("metering"):
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "random":
                assert node.attr == "Random", where(path, node)
            if isinstance(node, ast.ImportFrom) and node.module == "random":
                assert [alias.name for alias in node.names] == ["Random"], where(path, node)
            if isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) == "Random":
                assert node.args, f"{where(path, node)}: give the seed"


@pytest.mark.parametrize("command", COMMAND_EXTRAS)
def test_command_loads_with_its_parts_only(command: str) -> None:
    """What the other extras install is made unimportable, as on a machine that has not got it."""
    mine = set().union(*(EXTRA_MODULES[extra] for extra in COMMAND_EXTRAS[command]))
    absent = sorted(set().union(*EXTRA_MODULES.values()) - mine)
    code = f"import sys\nsys.modules.update(dict.fromkeys({absent}))\nimport dailyread.commands.{command}"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_forbidden_import_is_found() -> None:
    assert not Import("stream.app", "x").within({"metering", "storage"})
    assert Import("storage.facts", "x").within({"metering", "storage"})
    assert not Import("metering_tools", "x").within({"metering"})


def test_a_part_that_is_missing_gets_a_sentence() -> None:
    code = "import sys; sys.modules['faust'] = None; from dailyread.cli import main; sys.exit(main(['stream', '--help']))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, "dailyread stream needs faust: pip install 'dailyread[stream]'\n")
