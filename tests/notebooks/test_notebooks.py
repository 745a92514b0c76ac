"""Every notebook runs from start to end with small parameters. The one in the repository has the cells of its .py, and
outputs without noise; that these cells still give these outputs is not tested.
"""

import ast
import json
import re

import nbformat
import pytest

from app.config import TrainConfig
from notebooks.execute import FOLDER, execute, notebooks, parameters_cell, read_script
from tests.minilm import needs_minilm
from tuning.space import TuneConfig

PARAMETERS: dict[str, dict] = {
    "1_first_transfer": {
        "pictures": 100,
        "image_size": 32,
        "scratch_epochs": 1,
        "head_epochs": 3,
        "fine_tune_epochs": 1,
        "trainable_layers": 3,
    },
    "2_your_own_photos": {"image_size": 32, "pictures": 36},
    "3_choosing_and_freezing": {
        "pictures": 100,
        "image_sizes": (32, 128),
        "image_size": 32,
        "unfrozen_blocks": (0, 1),
        "fine_tune_epochs": 1,
    },
    "4_searching_hyperparameters": {"pictures": 100, "image_size": 32, "max_trials": 4, "head_epochs": (1, 2)},
    "5_reading_the_report": {"pictures": 100, "image_size": 32, "head_epochs": 2},
    "6_taking_it_elsewhere": {"pictures": 100, "image_size": 32, "head_epochs": 1, "devices": 1, "workers": 0},
    "7_texts": {"texts": 120, "max_tokens": 16},
    "8_sounds": {"recordings": 60},
    "9_boxes": {"pictures": 30, "image_size": 96, "head_epochs": 2},
    "10_few_are_sick": {"num_smears": 200, "image_size": 32},
    "11_the_frozen_part": {"pictures": 100, "image_size": 32, "fine_tune_epochs": 1},
}
"""Parameters with which each notebook is executed here: small ones. Without a row, a notebook keeps its own."""
MOST_BYTES = 300_000
ABSOLUTE_PATH = re.compile(r"(?<![\w.:/])(?:/(?:home|root|tmp|usr|opt|var|work|mnt|private|Users)/|[A-Z]:\\)")

MARKS = {
    "6_taking_it_elsewhere": [pytest.mark.slow],
    "7_texts": [needs_minilm],
    "11_the_frozen_part": [pytest.mark.slow],
}

every_notebook = pytest.mark.parametrize("path", notebooks(), ids=lambda path: path.stem)


@pytest.mark.parametrize(
    "path", [pytest.param(path, marks=MARKS.get(path.stem, [])) for path in notebooks()], ids=lambda path: path.stem
)
def test_a_notebook_runs_from_start_to_end(path):
    # From the repository's root, while the outputs in the repository are made in notebooks/: both have to work.
    executed = execute(path, FOLDER.parent, PARAMETERS.get(path.stem))
    # A package that warns from its next version on breaks nothing.
    assert _noise(executed, of_others=False) == []


@pytest.mark.parametrize(
    ("rule", "flag"),
    [
        ({"cost": "20:1"}, "--cost 20:1"),
        pytest.param({"specificity": 0.9}, "--specificity 0.9", marks=pytest.mark.slow),
    ],
)
def test_few_are_sick_takes_any_rule_for_the_threshold(rule, flag):
    name = "10_few_are_sick"
    executed = execute(FOLDER / f"{name}.py", FOLDER.parent, {**PARAMETERS[name], "rule": rule})
    shown = "".join(_texts([cell.get("outputs") for cell in executed.cells]))
    assert f"\n{flag} " in shown  # a row of the table
    assert ("val: specificity" in shown) == ("specificity" in rule)
    assert "val: sensitivity" not in shown


@every_notebook
def test_both_files_of_a_notebook_have_the_same_cells(path):
    script, notebook = read_script(path), nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    how = f"run `python notebooks/execute.py notebooks/{path.name}`"
    assert _cells(notebook) == _cells(script), how
    assert notebook.metadata.kernelspec == script.metadata.kernelspec, how
    assert "version" not in json.dumps(notebook.metadata), how


@every_notebook
def test_a_notebook_was_executed_in_one_go_and_said_no_more_than_it_should(path):
    notebook = nbformat.read(path.with_suffix(".ipynb"), as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    formats = {name for cell in code for output in cell.outputs for name in output.get("data", {})}
    assert formats & {"image/png", "image/jpeg"}
    assert _noise(notebook) == []


@every_notebook
def test_a_notebook_is_small_and_names_no_place_on_a_machine(path):
    content = path.with_suffix(".ipynb").read_text(encoding="utf-8")
    assert len(content.encode()) <= MOST_BYTES
    texts = [text for text in _texts(json.loads(content)) if ABSOLUTE_PATH.search(text)]
    assert [text[:200] for text in texts] == []


@every_notebook
def test_the_first_code_cell_holds_the_parameters_each_with_a_comment(path):
    notebook = read_script(path)
    code = [number for number, cell in enumerate(notebook.cells) if cell.cell_type == "code"]
    first = parameters_cell(notebook)
    assert first == code[0]
    names = _parameters(notebook)
    assert notebook.cells[first].source.count("#") >= len(names) > 0
    assert set(PARAMETERS.get(path.stem, {})) <= set(names)


@every_notebook
def test_what_to_try_next_is_a_parameter_or_a_setting(path):
    notebook = read_script(path)
    sources = [cell.source for cell in notebook.cells]
    config = TuneConfig if "TuneConfig.of(" in "".join(sources) else TrainConfig
    for name, equals, value in re.findall(r"`(\w+)( = |=)([^`]+)`", sources[-1].partition("## Try next")[2]):
        if equals == " = ":
            assert name in _parameters(notebook)
        else:
            config.of(**{name: ast.literal_eval(value)})


def test_every_row_of_parameters_is_of_a_notebook():
    assert [name for name in PARAMETERS if not (FOLDER / f"{name}.py").exists()] == []


def test_the_readme_lists_every_notebook():
    readme = (FOLDER / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"\]\((\w+)\.ipynb\)", readme)
    assert [path.stem for path in notebooks() if path.stem not in listed] == []


def _parameters(notebook: nbformat.NotebookNode) -> list[str]:
    source = notebook.cells[parameters_cell(notebook)].source
    return [target.id for node in ast.parse(source).body for target in node.targets]


def _cells(notebook: nbformat.NotebookNode) -> list[tuple[str, str, list[str]]]:
    return [(cell.cell_type, cell.source, cell.metadata.get("tags", [])) for cell in notebook.cells]


def _noise(notebook: nbformat.NotebookNode, of_others: bool = True) -> list[str]:
    """Errors, what went to standard error, such as warnings and logs, and colours and bars that need a terminal.

    Args:
        notebook: with outputs.
        of_others: whether warnings and logs count that come from no file of the project and no cell.
    """
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [(output, str(output.get("text", output.get("evalue")))) for output in outputs]
    return [
        text
        for output, text in texts
        if output.output_type == "error"
        or "\x1b" in text
        or (output.get("name") == "stderr" and (of_others or _is_of_this_project(text)))
    ]


def _is_of_this_project(text: str) -> bool:
    """Says whether a warning names a file of the project or a cell, and calls every error such a one."""
    lines = [line for line in text.splitlines() if "site-packages" not in line]
    return any(mark in line for line in lines for mark in (str(FOLDER.parent), "ipykernel_", "Traceback"))


def _texts(value) -> list[str]:
    """All texts in a notebook but pictures."""
    if isinstance(value, dict):
        return [text for name, each in value.items() if not name.startswith("image/") for text in _texts(each)]
    if isinstance(value, list):
        return [text for each in value for text in _texts(each)]
    return [value] if isinstance(value, str) else []
