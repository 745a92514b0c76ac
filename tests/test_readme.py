"""The README says what is so: its table, its files and its commands."""

import re
import shlex
from pathlib import Path

from cli import parse_config
from models.backbones import TABLE

REPOSITORY = Path(__file__).parent.parent
README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def backbone_table() -> str:
    rows = [
        f"| `{row.name}` | {row.image_size} | {row.parameters:.1f} | {row.imagenet_accuracy:.1%} |" for row in TABLE
    ]
    return "\n".join(["| `--backbone` | pixels | M parameters | ImageNet top-1 |", "|---|---|---|---|", *rows])


def test_the_table_of_backbones_is_that_of_the_code():
    assert backbone_table() in README, f"put this into README.md:\n{backbone_table()}"


def test_every_source_file_is_in_the_tree_of_files():
    tree = README[README.index("## The files") :]
    packages = ("models", "data", "features", "training", "reports")
    files = [path for name in packages for path in (REPOSITORY / name).glob("*.py")] + list(REPOSITORY.glob("*.py"))
    missing = [path.name for path in files if path.name != "__init__.py" and path.name not in tree]
    assert missing == []


def test_every_command_parses():
    commands = [line for line in re.findall(r"^.*python train\.py.*$", README, re.MULTILINE) if "`" not in line]
    assert len(commands) >= 2
    for command in commands:
        flags = shlex.split(command.split("train.py", 1)[1])
        if "--help" not in flags:
            parse_config(flags)


def test_every_flag_exists():
    fields = parse_config([]).__dataclass_fields__
    flags = set(re.findall(r"--([a-z][a-z-]+)", README))
    assert {flag.replace("-", "_") for flag in flags} <= set(fields) | {"config", "help", "clear", "seeds"}
