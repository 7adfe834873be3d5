"""Provoke each hazard on brokers of several `transaction.version`s, and write what held as one table.

The tests that provoke them run once per version, on a broker formatted with it. A cell says *holds* where all that the
test states is so; where what is stated depends on the version, it says what was seen. A test that fails fails the run.

    python -m bench.hazards [--versions 0,1,2] [--only TEXT] [--out FILE.md] [--json]
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from policies.errors import Unable
from tests.helpers.kafka_versions import NEWEST

ROOT: Final = Path(__file__).parent.parent
_FOLDER: Final = Path("tests") / "serving" / "transport"
FILES: Final[Mapping[str, str]] = {
    "test_kafka_hazards": "",
    "test_kafka_client_hazards": "",
    "test_kafka_pause": "",
    "test_kafka_guard": "",
    "test_kafka_late": "H18",
    "test_kafka_hanging": "hanging",
}
"""The modules of the directed tests, and the hazard of those whose tests do not name it."""

Table = dict[tuple[str, str], dict[int, str]]
"""What was seen, by hazard and fact, and then by version."""


class UnableToProvoke(Unable):
    """The tests did not run; the message holds the end of what they said."""


def hazard_of(module: str, test: str) -> tuple[str, str] | None:
    """Return the hazard that a test provokes and the fact that it states, or None where it is about something else.

    >>> hazard_of("test_kafka_guard", "test_h2_an_epoch_changes[sent]")
    ('H2', 'an epoch changes [sent]')
    >>> hazard_of("test_kafka_late", "test_a_commit_comes_late")
    ('H18', 'a commit comes late')
    >>> hazard_of("test_kafka_guard", "test_a_batch_keeps_to_its_budget")
    """
    found = re.fullmatch(r"test_(?:(h\d+)_)?(\w+)(\[.*\])?", test)
    if found is None:
        return None
    hazard = found[1].upper() if found[1] else FILES[module]
    fact = found[2].replace("_", " ") + (f" {found[3]}" if found[3] else "")
    return (hazard, fact) if hazard else None


def read_outcomes(report: str, *, version: int, table: Table) -> bool:
    """Add the outcomes of a run, as JUnit's XML tells them, to a table; say whether none failed.

    A test that was skipped proves nothing, so it counts as failed.
    """
    is_well = True
    for case in ElementTree.fromstring(report).iter("testcase"):  # noqa: S314  # written by our own run
        module, name = case.attrib["classname"].rpartition(".")[2], case.attrib["name"]
        bad = next((kind for kind in ("failure", "error", "skipped") if case.find(kind) is not None), None)
        seen = [row.attrib["value"] for row in case.iter("property") if row.attrib["name"] == "seen"]
        is_well = is_well and bad is None
        key = hazard_of(module, name)
        if key is not None or bad is not None:
            row = table.setdefault(key or (module, name), {})
            row[version] = bad.upper() if bad else "; ".join(seen) or "holds"
    return is_well


def provoke(version: int, *, only: str, table: Table) -> bool:
    """Run the directed tests on a broker of one version; say whether all of them hold.

    Raises:
        UnableToProvoke: they did not run.
    """
    with tempfile.TemporaryDirectory() as scratch:
        report = Path(scratch) / "report.xml"
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-m",
            "kafka",
            f"--junitxml={report}",
        ]
        command += ["-o", "junit_family=xunit1", "-k", only, *(str(_FOLDER / f"{name}.py") for name in FILES)]
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=os.environ | {"PENSTOCK_TEST_TRANSACTION_VERSION": str(version), "PENSTOCK_REQUIRE": "kafka"},
            capture_output=True,
            text=True,
            check=False,
        )
        if not report.exists():
            raise UnableToProvoke(f"pytest ended with {done.returncode}: {(done.stdout + done.stderr)[-2000:]}")
        is_well = read_outcomes(report.read_text(), version=version, table=table)
    if not is_well:
        print(done.stdout[-6000:], file=sys.stderr)
    return is_well


def table_lines(table: Table, versions: Sequence[int]) -> list[str]:
    """Return the table as Markdown, hazards in the order of their numbers.

    >>> table_lines({("H10", "b"): {2: "holds"}, ("H2", "a"): {2: "holds"}}, [2])[2:]
    ['| H2 | a | holds |', '| H10 | b | holds |']
    """
    head = ["hazard", "what the test states", *(str(version) for version in versions)]
    cells = [[*key, *(table[key].get(version, "") for version in versions)] for key in sorted(table, key=_order)]
    return ["| " + " | ".join(row) + " |" for row in [head, ["---"] * len(head), *cells]]


def _order(key: tuple[str, str]) -> tuple[bool, int]:
    """Put hazards in the order of their numbers, and before all else; what is equal stays in the order of the tests."""
    is_numbered = re.fullmatch(r"H\d+", key[0]) is not None
    return not is_numbered, int(key[0][1:]) if is_numbered else 0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", default="0,1,2", help="transaction.version of the brokers (default: 0,1,2)")
    parser.add_argument("--only", default="", help="run the tests whose names hold this")
    parser.add_argument("--out", type=Path, help="write the table there, too")
    parser.add_argument("--json", action="store_true")
    words = parser.parse_args(argv)
    versions = [int(word) for word in words.versions.split(",")]
    if not set(versions) <= set(range(NEWEST + 1)):
        parser.error(f"versions lie in 0 to {NEWEST}, found {words.versions}")
    table: Table = {}
    are_well = [provoke(version, only=words.only, table=table) for version in versions]
    lines = table_lines(table, versions)
    if words.out is not None:
        words.out.write_text("\n".join(lines) + "\n")
    print(json.dumps([[*key, seen] for key, seen in table.items()]) if words.json else "\n".join(lines))
    return 0 if all(are_well) else 1


if __name__ == "__main__":
    sys.exit(main())
