"""Predicts classes of new examples: `predict.py runs/NAME photos`, `predict.py --backbone resnet50 photo.jpg`.

`predict.py --backbone whisper_tiny_en talk.wav` writes down what is said.
"""

import app.oldest_python  # noqa: F401

from pathlib import Path
from typing import Annotated

from app.cli import check_output_files, run_command
from app.errors import UsageError
from app.fields import Positional, Positive, Text, settings
from app.flags import parse_flags
from app.run_folder import KEPT_FILES
from inference.flags import AskFlags


@settings
class PredictFlags(AskFlags):
    """Predict the classes of examples, by a trained model (RUN PATH...) or by a pretrained network (--backbone NAME
    PATH...), which knows the 1000 classes of ImageNet, or is Whisper and writes down what is said in recordings."""

    places: Annotated[tuple[Text, ...], Positional("[RUN] PATH...")] = ()
    """RUN: a run folder, or a search folder, whose best run is taken. PATH: files, folders, patterns in quotes such as
    'photos/*.jpg', or a .csv file with a column path or text; or a text in quotes. A recording that is much longer than
    what the model hears at once is answered in parts, such as 'talk.wav#t=1,2', seconds 1 to 2. Files that cannot be
    read are listed with the reason; where a PATH matches no file, the others are answered, and the exit status is 1."""

    csv: Path | None = None
    """Write every answer to this file: path, predicted, probability, status, reason, probability of each class, and the
    other columns of a .csv in PATH. Of boxes, a row each with the corners x1, y1, x2, y2 in pixels; of speech, path,
    start and end (seconds), text. Ctrl-C keeps the rows so far. Default: no file."""

    coco: Path | None = None
    """Write the boxes that the model finds to this file as COCO has them, which labelling tools and --data read.
    Default: no file."""

    draw: Path | None = None
    """Write copies of the pictures into this folder, with the boxes that the model finds. Default: none."""

    top: Positive = 3
    """Classes that the terminal shows for each example."""

    outside: bool = False
    """Follow links that lead out of a folder, and paths that lead out of the folder of a .csv file. Default: list such
    links as unreadable, and refuse such paths."""

    def __post_init__(self):
        super().__post_init__()
        wanted = ("RUN", "PATH") if self.backbone is None else ("PATH",)
        if len(self.places) < len(wanted):
            raise UsageError(
                f"predict.py needs {' and '.join(wanted)}, such as 'python predict.py runs/NAME photos'; "
                f"received {' '.join(self.places) or 'neither' if len(wanted) > 1 else 'none'}."
            )


def main() -> None:
    """Finds the files, and only then loads TensorFlow and predicts."""
    flags = parse_flags(PredictFlags)
    from app.terminal import counted, import_tensorflow, listed, show_stage
    from inference.files import check_places, find_files
    from inference.run_record import find_learnt_from
    from models.backbones import find

    if flags.backbone is not None and find(flags.backbone).family.transcribes:
        _transcribe(flags)
        return
    folder, *places = flags.places if flags.backbone is None else ("", *flags.places)
    network, run = flags.find_network(Path(folder))
    finds_boxes = network.task.has_boxes
    column = run.config.data.text_column if run else None
    files = find_files(places, flags.outside, network.kind, column, columns=not finds_boxes)
    examples = [file.path for file in files if file.path.suffix.lower() in network.kind.endings]
    own = [run.folder / name for name in KEPT_FILES] if run else []
    check_output_files({"--csv": flags.csv, "--coco": flags.coco}, [*places, *examples, *own])
    if (flags.draw or flags.coco) and not finds_boxes:
        flag = "--draw" if flags.draw else "--coco"
        raise UsageError(f"{flag} is for a model that finds boxes; this one gives classes to whole pictures.")
    show_stage("files", counted(len(files), "file", "files"))
    learnt = find_learnt_from(run, files) if run else []
    if learnt:
        names = listed([str(file.path) for file in learnt])
        trained = f"the model was trained on {len(learnt):,} of these files ({names})"
        show_stage("warning", f"{trained}: expect less on new ones")
    import_tensorflow()
    if finds_boxes:
        from inference.predict_boxes import predict_boxes

        predict_boxes(network, files, csv=flags.csv, coco=flags.coco, draw=flags.draw)
    else:
        from inference.predict_files import predict_files

        predict_files(network, files, csv=flags.csv, top=flags.top, unknown_below=flags.unknown_below)
    check_places(files)


def _transcribe(flags: PredictFlags) -> None:
    """Writes down what is said in recordings."""
    from app.terminal import import_tensorflow
    from data.sounds.kind import KIND
    from inference.files import check_places, find_files
    from models.backbones import find
    from models.weights import check_available

    if flags.coco or flags.draw or flags.resize or flags.unknown_below:
        raise UsageError(
            "What is said has no boxes, size or 'unknown': leave --coco, --draw, --resize, --unknown-below out."
        )
    backbone = find(str(flags.backbone))
    check_available(backbone, flags.weights)
    files = find_files(flags.places, flags.outside, KIND)
    check_output_files({"--csv": flags.csv}, flags.places)
    import_tensorflow()
    from inference.transcribe import transcribe_files

    transcribe_files(backbone, flags.weights, files, flags.csv)
    check_places(files)


if __name__ == "__main__":
    run_command(main)
