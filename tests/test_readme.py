"""The README says what is so: its table, its files and its commands."""

import dataclasses
import functools
import re
import shlex
from pathlib import Path

import pytest

from cli import parse_config, parse_flags
from config import TrainConfig
from evaluate import EvaluateFlags
from export import ExportFlags
from models.backbones import TABLE
from predict import PredictFlags
from tuning.space import TuneConfig

REPOSITORY = Path(__file__).parent.parent
BENCHMARK_FLAGS = ("seeds", "depths", "peer_trials", "count", "run")
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
    packages = ("models", "data", "features", "inference", "training", "tuning", "reports")
    files = [path for name in packages for path in (REPOSITORY / name).glob("*.py")] + list(REPOSITORY.glob("*.py"))
    missing = [path.name for path in files if path.name != "__init__.py" and path.name not in tree]
    assert missing == []


@pytest.mark.parametrize(
    ("script", "parse", "least"),
    [
        ("train.py", parse_config, 2),
        ("tune.py", functools.partial(parse_flags, TuneConfig), 2),
        ("predict.py", functools.partial(parse_flags, PredictFlags), 2),
        ("evaluate.py", functools.partial(parse_flags, EvaluateFlags), 2),
        ("export.py", functools.partial(parse_flags, ExportFlags), 1),
    ],
)
def test_every_command_parses(script, parse, least, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/NAME").mkdir(parents=True)
    for name in ("config.json", "metrics.json"):  # which --resume reads
        Path("runs/NAME", name).write_text("{}")
    commands = [line for line in re.findall(rf"^.*python {script}.*$", README, re.MULTILINE) if "`" not in line]
    assert len(commands) >= least
    for command in commands:
        flags = shlex.split(command.split(script, 1)[1])
        if "--help" not in flags:
            parse(flags)


def test_every_flag_exists():
    kinds = TrainConfig, TuneConfig, PredictFlags, EvaluateFlags, ExportFlags
    fields = {field.name for kind in kinds for field in dataclasses.fields(kind)}
    flags = set(re.findall(r"--([a-z][a-z-]+)", README))
    others = {"config", "help", "clear", "no_quantize", "logdir", *BENCHMARK_FLAGS}
    assert {flag.replace("-", "_") for flag in flags} <= fields | others
