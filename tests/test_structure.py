"""The commands are at the top: nothing else imports them. The contracts in pyproject.toml keep the rest."""

import ast
import tomllib
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
COMMANDS = {path.stem for path in REPOSITORY.glob("*.py")} - {"custom"}
CONTRACTS = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
PACKAGES = {path.parent.name for path in REPOSITORY.glob("*/__init__.py")} - {"tests", "notebooks"}


def test_every_package_is_under_contract():
    assert set(CONTRACTS["root_packages"]) == PACKAGES
    layers, circles = CONTRACTS["contracts"]
    assert {name for layer in layers["layers"] for name in layer.split(" | ")} == PACKAGES
    assert set(circles["ancestors"]) == PACKAGES


def test_no_package_imports_a_command():
    for path in (path for package in PACKAGES for path in (REPOSITORY / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and node.module else []
            assert COMMANDS.isdisjoint(name.split(".")[0] for name in names), path
