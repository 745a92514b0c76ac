"""Executes notebooks: `python notebooks/execute.py` or `python notebooks/execute.py notebooks/2_*.py`.

Edit the .py. This writes the .ipynb of the same name beside it, with outputs, but without what changes with the machine
or the versions of packages.
"""

import hashlib
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jupytext
import nbformat
from nbclient import NotebookClient

FOLDER = Path(__file__).parent
FORMATS = "ipynb,py:percent"
CELL_SECONDS = 1_800
"""Most seconds that a cell may take."""


def notebooks() -> list[Path]:
    """Returns the .py of every notebook, in order: their names begin with a number."""
    return sorted(FOLDER.glob("[0-9]*.py"))


def read_script(path: Path) -> nbformat.NotebookNode:
    """Reads a .py as a notebook without outputs, its metadata and cell ids the same each time."""
    notebook = jupytext.read(path, fmt="py:percent")
    notebook.metadata = nbformat.from_dict(
        {
            "jupytext": {"formats": FORMATS},
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    for cell in notebook.cells:
        cell.id = hashlib.sha256(cell.source.encode()).hexdigest()[:8]
    return notebook


def parameters_cell(notebook: nbformat.NotebookNode) -> int:
    """Returns the position of the cell with the tag `parameters`."""
    return next(number for number, cell in enumerate(notebook.cells) if "parameters" in cell.metadata.get("tags", ()))


def execute(path: Path, folder: Path, parameters: Mapping[str, Any] | None = None) -> nbformat.NotebookNode:
    """Executes a notebook from start to end.

    Args:
        path: of the .py.
        folder: its working directory.
        parameters: values that replace those of its first code cell.

    Returns:
        The notebook with its outputs.

    Raises:
        nbclient.exceptions.CellExecutionError: a cell raised an error.
    """
    notebook = read_script(path)
    if parameters:
        source = "\n".join(f"{name} = {value!r}" for name, value in parameters.items())
        notebook.cells.insert(parameters_cell(notebook) + 1, nbformat.v4.new_code_cell(source))
    metadata = notebook.metadata.copy()
    NotebookClient(
        notebook,
        timeout=CELL_SECONDS,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
        record_timing=False,
        coalesce_streams=True,
    ).execute()
    notebook.metadata = metadata  # without the version of Python
    return notebook


def main() -> None:
    """Executes the notebooks that are named, or all."""
    for path in [Path(name) for name in sys.argv[1:]] or notebooks():
        print(f"{path.name} ...", end=" ", flush=True)
        started = time.monotonic()
        nbformat.write(execute(path, FOLDER), path.with_suffix(".ipynb"))
        print(f"{time.monotonic() - started:.0f} seconds")


if __name__ == "__main__":
    main()
