"""Exports a trained model to other formats, each checked against it: `python export.py RUN --format onnx`."""

import app.oldest_python  # noqa: F401

import dataclasses
from pathlib import Path
from typing import Annotated, Literal

import tyro

from app.cli import run_command
from app.config import DEFAULT_CACHE_DIR, Open, Several
from app.errors import UsageError
from app.flags import parse_flags

Format = Literal["saved_model", "litert", "onnx"]


@dataclasses.dataclass(frozen=True)
class ExportFlags:
    """Export the model of a run. A file is kept only if its own runtime answers as the model does."""

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """A run folder, or a search folder, whose best run is taken."""

    format: tuple[Format, ...] = ("saved_model", "litert", "onnx")
    """Formats: a SavedModel that takes picture files or pixels, LiteRT (TensorFlow Lite) files, an ONNX file."""

    output: Open[Path] = None
    """Folder that gets a folder per format. Default: export/ in the run folder."""

    require_accuracy: Open[float] = None
    """Refuse to export a model whose accuracy on the test split (or val, without test) is below this fraction.
    Default: export any."""

    quantize: bool = True
    """Write a quantised LiteRT file as well, a quarter of the size, if it gives the same labels."""

    sample: Several[str] = ()
    """Pictures to compare on: files, folders or patterns. Default: those that the run measured itself on."""

    sample_size: int = 128
    """Most pictures to compare on."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """The --cache-dir of the run, where bundled and named data sets are unpacked."""

    def __post_init__(self):
        if not self.format:
            raise UsageError("--format needs at least one of saved_model, litert, onnx.")
        if self.sample_size < 1:
            raise UsageError(f"--sample-size must be at least 1; received {self.sample_size}.")


def main() -> None:
    """Checks the run, reads the pictures, and only then loads TensorFlow and exports."""
    flags = parse_flags(ExportFlags)
    from app.terminal import counted, import_tensorflow, show_stage
    from data.folder import check_outside
    from exports.folder import check_folders
    from inference.load import read_run
    from inference.run_record import check_accuracy, read_metrics, read_sample

    run = read_run(flags.run)
    metrics = read_metrics(run)
    check_accuracy(metrics, flags.require_accuracy)
    folders: dict[str, Path] = {name: (flags.output or run.folder / "export") / name for name in flags.format}
    check_outside(run.config.data, {"--output": flags.output} if flags.output else {})
    check_folders(folders.values())
    sample = read_sample(run, flags.sample, flags.sample_size, flags.cache_dir)
    show_stage("sample", f"{counted(len(sample.paths), 'picture', 'pictures')} to compare on")
    import_tensorflow()
    from exports.run import export_run

    export_run(run, metrics, sample, folders, flags.quantize)


if __name__ == "__main__":
    run_command(main)
