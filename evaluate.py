"""Measures a trained model again: `python evaluate.py runs/NAME`, or on new pictures with `--data photos`."""

import app.oldest_python  # noqa: F401

from pathlib import Path
from typing import Annotated

from app.cli import check_output_files, run_command
from app.config import DEFAULT_CACHE_DIR
from app.decision import DecisionConfig, check_rule
from app.errors import UsageError
from app.fields import Positional, Settings, Text, settings
from app.flags import parse_flags
from app.run_folder import KEPT_FILES
from data.sources import Split


@settings
class EvaluateFlags(Settings):
    """Measure a trained model again: on its own val and test pictures, or on new pictures with labels."""

    run: Annotated[Path, Positional("RUN")]
    """A run folder, or a search folder, whose best run is taken."""

    data: Text | None = None
    """New pictures of classes that the model knows, in any form that train.py takes. --threshold then applies to this
    measurement only, and the run stays as it is. Default: the pictures of the run."""

    outside: bool = False
    """Also use new pictures outside the folder of --data: through links, and by paths of a CSV that lead out of it."""

    group_by: Text | None = None
    """Groups of the new pictures, as in train.py: right or wrong together, they count as fewer in the intervals.
    Default: that of the run, where the new pictures have such groups."""

    split: tuple[Split, ...] = ()
    """Splits to measure, as the data has them or train.py makes them. Default: val and test of the run, or all pictures
    of --data."""

    json: Path | None = None
    """Write the figures to this file, as in metrics.json. Default: no file."""

    csv: Path | None = None
    """Write each picture's label, prediction and probabilities to this file, as in predictions.csv. Default: no
    file."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder for decoded pictures and unpacked data sets."""

    decision: DecisionConfig = DecisionConfig()

    def __post_init__(self):
        if self.group_by is not None and self.data is None:
            raise UsageError("--group-by is for new pictures; name them with --data.")
        rule = self.decision.rule
        measures_only = self.data is not None and rule is not None and rule.name == "threshold"
        if rule is not None and not measures_only and (self.data is not None or self.split):
            flag = "--split" if self.data is None else "--data"
            why = "decides all splits of a run" if rule.name == "threshold" else "is chosen on the run's own val split"
            raise UsageError(f"{rule.flag} {why}; leave out {flag}.")


def main() -> None:
    """Decodes the pictures, and only then loads TensorFlow and measures."""
    flags = parse_flags(EvaluateFlags)
    from app.terminal import import_tensorflow
    from inference.load import read_run
    from reports.evaluation_inputs import load_evaluation

    run = read_run(flags.run)
    check_rule(flags.decision.rule, len(run.class_names), run.task.multi_label)
    outputs = {"--json": flags.json, "--csv": flags.csv}
    own: list[str | Path] = [flags.data or run.config.data.data, *(run.folder / name for name in KEPT_FILES)]
    check_output_files(outputs, own)
    inputs = load_evaluation(run, flags.data, flags.split, flags.cache_dir, flags.outside, flags.group_by)
    check_output_files(outputs, [*own, *(example.path for example in inputs.data.examples)])
    import_tensorflow()
    from reports.evaluation import evaluate

    evaluate(inputs, flags.json, flags.csv, flags.decision.rule)


if __name__ == "__main__":
    run_command(main)
