"""Exports a trained model to other formats, each checked against it: `python export.py RUN --format onnx`."""

import app.oldest_python  # noqa: F401

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Le

from app.cli import run_command
from app.config import DEFAULT_CACHE_DIR
from app.errors import UsageError
from app.fields import Positional, Positive, Settings, Text, settings
from app.flags import parse_flags
from app.run_folder import exports_of

Format = Literal["saved_model", "litert", "onnx"]


@settings
class ExportFlags(Settings):
    """Export the model of a run. A file is kept only if its own runtime answers as the model does."""

    run: Annotated[Path, Positional("RUN")]
    """A run folder, or a search folder, whose best run is taken."""

    format: tuple[Format, ...] = ("saved_model", "litert", "onnx")
    """Formats: a SavedModel that takes picture files or pixels, LiteRT (TensorFlow Lite) files, an ONNX file."""

    output: Path | None = None
    """Folder that gets a folder per format. Default: export/ in the run folder."""

    require_accuracy: Annotated[float, Ge(0), Le(1)] | None = None
    """Refuse to export a model whose accuracy on the test split (or val, without test) is below this fraction.
    Default: export any."""

    quantize: bool = True
    """Also write LiteRT files in float16, with 8-bit weights, and in 8 bits throughout, if they give the same labels.
    They have half to a quarter of the size."""

    keep_quantized: bool = False
    """Keep a quantised file even if it gives other labels; its card says how many. Default: leave it out."""

    sample: tuple[Text, ...] = ()
    """Pictures to compare on: files, folders or patterns. Default: those that the run measured itself on."""

    sample_size: Positive = 128
    """Most pictures to compare on."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """The --cache-dir of the run, where bundled and named data sets are unpacked."""

    def __post_init__(self):
        if not self.format:
            raise UsageError("--format needs at least one of saved_model, litert, onnx.")


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
    folders: dict[str, Path] = {name: (flags.output or exports_of(run.folder)) / name for name in flags.format}
    check_outside(run.config.data.data, {"--output": flags.output} if flags.output else {})
    check_folders(folders.values())
    sample = read_sample(run, flags.sample, flags.sample_size, flags.cache_dir)
    show_stage("sample", f"{counted(len(sample.paths), run.kind.noun, run.kind.nouns)} to compare on")
    import_tensorflow()
    from exports.run import export_run

    export_run(run, metrics, sample, folders, flags.quantize, flags.keep_quantized)


if __name__ == "__main__":
    run_command(main)
