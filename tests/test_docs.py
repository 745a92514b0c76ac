"""The documents say what is so: their tables, links, files, names, flags, commands and figures."""

import functools
import importlib
import inspect
import itertools
import re
import shlex
from collections.abc import Iterable
from pathlib import Path

import pytest

from app.config import TrainConfig
from app.flags import parse_flags
from benchmarks.backbones import measured
from benchmarks.processes import comparison_parser
from demo import DemoFlags
from evaluate import EvaluateFlags
from export import ExportFlags
from models.backbones import HUB, TABLE, Backbone
from predict import PredictFlags
from serve import ServeFlags
from training.flags import parse_config
from tuning.space import SearchFlags, parse_search

REPOSITORY = Path(__file__).parent.parent
DOCUMENTS = [
    path
    for path in sorted([*REPOSITORY.glob("*.md"), *REPOSITORY.glob("*/README.md"), *REPOSITORY.glob("docs/*.md")])
    if path.parent.name not in ("runs", ".pytest_cache")
]
TEXTS = {str(path.relative_to(REPOSITORY)): path.read_text(encoding="utf-8") for path in DOCUMENTS}
README, CONTRIBUTING, BENCHMARKS = TEXTS["README.md"], TEXTS["CONTRIBUTING.md"], TEXTS["benchmarks/README.md"]
PACKAGES = (
    "app",
    "cluster",
    "devices",
    "tasks",
    "models",
    "data",
    "features",
    "inference",
    "exports",
    "serving",
    "training",
    "tuning",
    "reports",
)
SCRIPTS = {
    "train.py": parse_config,
    "tune.py": parse_search,
    "predict.py": functools.partial(parse_flags, PredictFlags),
    "evaluate.py": functools.partial(parse_flags, EvaluateFlags),
    "export.py": functools.partial(parse_flags, ExportFlags),
    "demo.py": functools.partial(parse_flags, DemoFlags),
    "serve.py": functools.partial(parse_flags, ServeFlags),
}
OTHER_FLAGS = {"help", "config", "clear", "no-quantize", "no-deps", "logdir"}
"""Of every script, of cache.py, the opposite of a flag, of pip, and of TensorBoard."""
NAMES = {
    "models.backbones": ("TABLE", "FAMILIES"),
    "data.kinds": ("Kind", "Reader"),
    "data.unpack": ("unpack_once", "write_example", "folder_names"),
    "data.sources": ("SOURCES", "load_source"),
    "reports.sections": ("SECTIONS", "ABOUT_RUN"),
    "reports.facts": ("Facts",),
    "reports.by_task": ("Reporting",),
    "tasks.base": ("BaseTask",),
    "app.config": ("KindName", "ModelConfig", "TrainingConfig"),
    "models.heads": ("build_head",),
    "models.classifier": ("build_classifier",),
    "training.optimizers": ("Rates",),
    "training.learner": ("Learner",),
    "training.steps": ("compile_graphs",),
    "tuning.search": ("group_trials",),
    "tuning.space": ("SPACE",),
    "exports.run": ("FORMATS",),
    "exports.class_function": ("ClassFunction",),
    "export": ("Format",),
}
"""What the steps of CONTRIBUTING.md speak of."""


def table(title: str, rows: Iterable[str]) -> str:
    return "\n".join([title, "|" + "---|" * (title.count("|") - 1), *rows])


def cells(backbone: Backbone) -> str:
    rate = f"{measured()[backbone.name]:,.3g}" if backbone.name in measured() else "–"
    accuracy = "–" if backbone.imagenet_accuracy is None else f"{backbone.imagenet_accuracy:.1%}"
    return f"| `{backbone.name}` | {backbone.image_size} | {backbone.parameters:.1f} | {accuracy} | {rate} |"


def families_table() -> str:
    families = [list(rows) for _, rows in itertools.groupby(TABLE, key=lambda backbone: backbone.module)]
    rows = [f"{cells(first)} {', '.join(f'`{backbone.name}`' for backbone in larger)} |" for first, *larger in families]
    return table("| `--backbone` | pixels | M parameters | ImageNet top-1 | pictures per second | larger ones |", rows)


def hub_table() -> str:
    rows = []
    for row in HUB:
        accuracy = "–" if row.imagenet_accuracy is None else f"{row.imagenet_accuracy:.1%}"
        about = f"{accuracy} | {', '.join(row.family.pooling)} | {re.split('[,:]', row.family.licence)[0]}"
        rows.append(f"| `{row.name}` | {row.image_size} | {row.parameters:.1f} | {about} |")
    return table("| `--backbone` | pixels | M parameters | ImageNet top-1 | `--pooling` | licence |", rows)


def backbones_table() -> str:
    return table("| `--backbone` | pixels | M parameters | ImageNet top-1 | pictures per second |", map(cells, TABLE))


@pytest.mark.parametrize(
    ("document", "generate"),
    [("README.md", families_table), ("benchmarks/README.md", backbones_table), ("benchmarks/README.md", hub_table)],
)
def test_the_table_of_backbones_is_that_of_the_code(document, generate):
    assert generate() in TEXTS[document], f"put this into {document}:\n{generate()}"


def test_the_readme_is_short():
    assert len(README.splitlines()) < 300


def test_the_readme_quotes_what_the_benchmarks_page_says():
    quoted = re.findall(r"\d+(?:\.\d+)?(?= %| s\b|x)", "".join(re.findall(r"^\| (?:plain|Head).*$", README, re.M)))
    (row,) = (line for line in BENCHMARKS.splitlines() if line.startswith("| 397 photos"))
    assert len(quoted) == 10
    assert set(quoted) <= set(re.findall(r"\d+(?:\.\d+)?", row))


def test_the_tree_of_files_has_a_line_for_every_file_of_code_and_for_no_other():
    (tree,) = re.findall(r"^## The files\n\n```\n(.*?)^```", CONTRIBUTING, re.S | re.M)
    named, folder = set(), ""
    for line in tree.splitlines():
        names = re.match(r" *((?:[\w/]+(?:\.py)? )*[\w/]+(?:\.py)?)(?:  |$)", line)[1].split()
        folder = names[0] if names[0].endswith("/") else folder if line.startswith(" ") else ""
        named |= {folder + name for name in names if name.endswith(".py")}
    folders = {name.split("/")[0] for name in named if "/" in name}
    assert set(PACKAGES) | {"benchmarks", "notebooks"} == folders
    files = [*REPOSITORY.glob("*.py"), *(path for name in folders for path in (REPOSITORY / name).rglob("[!_0-9]*.py"))]
    assert {path.relative_to(REPOSITORY).as_posix() for path in files} == named


def test_the_ratios_of_the_benchmarks_follow_from_their_seconds():
    """Of plain Keras to a first and a second run, and of a whole and a cached search to ours."""
    rows = [line.split("|")[3:5] for line in BENCHMARKS.splitlines() if re.search(r"\*\*\d+x\*\*|x\*\* cold", line)]
    assert len(rows) == 6
    for seconds, ratios in rows:
        first, second, third = (float(each.replace(",", "")) for each in re.findall(r"\d[\d,.]*\d", seconds))
        expected = (first / second, first / third) if "cold" in ratios else (first / third, second / third)
        said = [float(each) for each in re.findall(r"\*\*([\d.]+)x\*\*", ratios)]
        assert said == pytest.approx(expected, rel=0.05)


def test_the_sentence_of_the_report_is_of_the_run_that_is_shown():
    right, judged = (
        int(each.replace(",", "")) for each in re.search(r"Right\s+on\s+([\d,]+)\s+of\s+([\d,]+)", README).groups()
    )
    assert re.search(rf"^ *test +{right / judged:.1%} ", README, re.M)
    assert f"{judged:,} test" in README


def test_the_example_in_python_answers(binary_run, capsys):
    (code,) = re.findall(r"^```python\n(.*?)^```", README, re.S | re.M)
    picture = next((binary_run.parent / "photos").rglob("*.jpg"))
    exec(code.replace("runs/NAME", str(binary_run)).replace("photo.jpg", str(picture)), {})
    assert re.fullmatch(r"\{'cat': .*0\.\d+.*, 'dog': .*0\.\d+.*\}\n", capsys.readouterr().out)


@pytest.mark.parametrize("document", TEXTS)
def test_every_link_leads_somewhere(document):
    links = re.findall(r"\]\(([^)]+)\)", TEXTS[document])
    places = [link for link in links if not link.startswith("https://")]
    folder = (REPOSITORY / document).parent
    assert [place for place in places if not (folder / place).exists()] == []


@pytest.mark.parametrize("document", TEXTS)
def test_every_file_that_is_named_is_there(document):
    text = re.sub(r"^## The files\n\n```.*?^```", "", TEXTS[document], flags=re.S | re.M)
    paths = re.findall(r"\b(?:\w+/)*\w+\.py\b|\b(?:\w+/)+[\w.-]+\.(?:sh|csv|png)\b|\brequirements[\w-]*\.txt\b", text)
    folders = REPOSITORY, (REPOSITORY / document).parent
    inside = [path for path in paths if not path.startswith("runs/")]
    assert [path for path in inside if not any((folder / path).exists() for folder in folders)] == []


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_every_name_in_the_steps_is_there(module, name):
    assert f"`{name}`" in CONTRIBUTING
    assert hasattr(importlib.import_module(module), name)


def flags_of_benchmarks() -> set[str]:
    sources = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "benchmarks").glob("*.py"))
    return set(re.findall(r'add_argument\(\s*"--([a-z-]+)"', sources))


def flags_of_scripts() -> set[str]:
    kinds = TrainConfig, SearchFlags, PredictFlags, EvaluateFlags, ExportFlags, DemoFlags, ServeFlags
    return {name.replace("_", "-") for kind in kinds for _, name, _ in kind.fields()}


@pytest.mark.parametrize("document", TEXTS)
def test_every_flag_exists(document):
    flags = set(
        re.findall(r"(?<![\w-])--([a-z][a-z-]+)", re.sub(r"`(?:pip|pytest|ruff|jupy|uv )[^`]*`", "", TEXTS[document]))
    )
    assert flags <= flags_of_scripts() | flags_of_benchmarks() | OTHER_FLAGS


def commands(text: str) -> list[list[str]]:
    """The words of what starts one of the project's programs, in a block of code or within a sentence."""
    blocks = re.findall(r"^```\w*\n(.*?)^```", text, re.S | re.M)
    sentences = re.sub(r"^```.*?^```", "", text, flags=re.S | re.M)
    spans = [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", sentences)]
    lines = "".join(blocks).replace("\\\n", " ").splitlines()
    parts = [part.strip() for line in [*lines, *spans] for part in line.split("&&")]
    starts = [re.match(r"(?:\w+=\S+ +)*python (?=\w+\.py|-m )", part) for part in parts]
    return [shlex.split(part[start.end() :]) for part, start in zip(parts, starts, strict=True) if start]


@pytest.mark.parametrize("document", TEXTS)
def test_every_command_parses(document, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("runs/NAME").mkdir(parents=True)
    for name in ("config.json", "metrics.json"):  # which --resume reads
        Path("runs/NAME", name).write_text("{}")
    for script, *flags in commands(TEXTS[document]):
        if script in SCRIPTS and "--help" not in flags:
            SCRIPTS[script](flags)
        elif script == "-m" and flags[0].startswith("benchmarks."):
            source = (REPOSITORY / f"{flags[0].replace('.', '/')}.py").read_text(encoding="utf-8")
            if "comparison_parser(" in source:
                source += inspect.getsource(comparison_parser)
            known = set(re.findall(r'"--([a-z-]+)"', source)) | (
                flags_of_scripts() if "parse_known" in source else set()
            )
            assert {flag[2:] for flag in flags if flag.startswith("--")} <= known, flags
        elif script == "-m" and flags[0] == "devices.launch":
            parse_config(flags[2:])
        else:
            assert script == "-m" or (REPOSITORY / script).exists(), script


def test_the_readme_has_commands_for_every_script():
    assert set(SCRIPTS) | {"cache.py"} <= {script for script, *_ in commands(README)}
