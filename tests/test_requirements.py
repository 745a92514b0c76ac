"""The lock file and the ranges that it is made from agree."""

import functools
import re
from collections import defaultdict
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).parent.parent
LOCK = (REPOSITORY / "requirements.lock").read_text(encoding="utf-8")
TPU = REPOSITORY / "requirements-tpu.txt"


def ranges_of(file: Path) -> list[Requirement]:
    lines = file.read_text(encoding="utf-8").splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith(("#", "-r "))]


RANGES = [each for file in sorted({*REPOSITORY.glob("requirements*.txt")} - {TPU}) for each in ranges_of(file)]


@functools.cache
def locked() -> dict[str, list[tuple[str, str]]]:
    """For each package the version and the hashes of its entries; platforms may have versions of their own."""
    entries = re.findall(r"^([\w.-]+)==(\S+)(.*(?:\n    .*)*)", LOCK, re.MULTILINE)
    found = defaultdict(list)
    for name, version, rest in entries:
        found[canonicalize_name(name)].append((version, rest))
    return found


@pytest.mark.parametrize("requirement", RANGES, ids=str)
def test_every_locked_version_is_in_its_range(requirement):
    versions = [version for version, _ in locked()[canonicalize_name(requirement.name)]]
    assert versions
    assert [version for version in versions if version not in requirement.specifier] == []


def test_every_range_has_a_lower_and_an_upper_bound():
    for requirement in RANGES:
        operators = {part.operator for part in requirement.specifier}
        assert operators >= {">=", "<"} or operators <= {"==", "~="}, requirement


def test_machines_with_tpus_get_the_same_but_for_tensorflow():
    others = {str(each) for each in ranges_of(TPU)} ^ {str(each) for each in ranges_of(REPOSITORY / "requirements.txt")}
    assert others == {"tensorflow~=2.21.0", "tensorflow-tpu~=2.20.0", "animal_mnist==0.4"}


def test_everything_that_is_locked_has_a_hash_and_comes_from_no_other_place():
    lines = [line for line in LOCK.splitlines() if not line.startswith("#")]
    entry = r"[a-z0-9.-]+==\S+( ; .+)? \\|    --hash=sha256:[0-9a-f]{64}( \\)?"
    assert [line for line in lines if not re.fullmatch(entry, line)] == []
    assert all("--hash=sha256:" in rest for entries in locked().values() for _, rest in entries)
