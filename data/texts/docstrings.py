"""Texts for a first run without a network connection: descriptions of functions and classes of four libraries; the
classes to learn are the libraries.

They are read from the source files of packages that are installed anyway, without importing them. The task is real but
of no practical use, and easy: the words give most libraries away. Descriptions from one file are a group, and stay on
one side of a split.
"""

import ast
import csv
import hashlib
import itertools
import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

from data import csv_table
from data.sources import Source
from data.unpack import unpack_once

LIBRARIES = {"numpy": "numpy", "scipy": "scipy", "pandas": "pandas", "scikit-learn": "sklearn"}
"""Distributions (the names of the classes) and their folders."""
MOST_OF_ONE = 400
SHORTEST, LONGEST = 30, 300
"""Fewest and most characters of a description."""
NAMED = re.compile(r"numpy|scipy|pandas|sklearn|scikit|\bnp\b|\bpd\b|\bsp\b", re.IGNORECASE)
"""Words that contain the answer; descriptions with one of them are left out."""


def load(data: str, cache_dir: Path, outside: bool = False) -> Source:
    """Writes the descriptions to a CSV file in `cache_dir`, the first time, and reads it.

    Raises:
        UsageError: the folder is not writable.
    """
    versions = [f"{name} {metadata.version(name)}" for name in LIBRARIES]
    digest = hashlib.sha256(f"{versions} {Path(__file__).read_text(encoding='utf-8')}".encode()).hexdigest()[:8]
    root = unpack_once(cache_dir / "data" / f"docstrings-{digest}", _write_table)
    return csv_table.load(str(root / "docstrings.csv"), cache_dir)


def _write_table(root: Path) -> None:
    with open(root / "docstrings.csv", "w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("text", "label", "group"))
        for name, folder in LIBRARIES.items():
            package = Path(str(metadata.distribution(name).locate_file(folder)))
            found = itertools.islice(_descriptions(package), MOST_OF_ONE)
            writer.writerows((text, name, group) for text, group in found)


def _descriptions(package: Path) -> Iterator[tuple[str, str]]:
    """Yields the first paragraphs of a library's docstrings, each once, and their files."""
    files = (path for path in package.rglob("*.py") if "tests" not in path.parts and not path.name.startswith("_test"))
    seen = set()
    # This order mixes the parts of a library.
    for path in sorted(files, key=lambda path: hashlib.sha256(path.relative_to(package).as_posix().encode()).digest()):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef):
                text = " ".join((ast.get_docstring(node) or "").split("\n\n")[0].split())
                if SHORTEST <= len(text) <= LONGEST and not NAMED.search(text) and text not in seen:
                    seen.add(text)
                    yield text, path.relative_to(package.parent).as_posix()
