"""Trains and uses models from Python, as the commands do; docs/python.md has examples.

TensorFlow is loaded only when it is needed, without its start-up messages.
"""

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from app.config import DEFAULT_CACHE_DIR, TrainConfig
from app.terminal import import_tensorflow, quiet_console

if TYPE_CHECKING:
    import pandas as pd

    from inference.answering import AnsweringModel
    from inference.load import TrainedRun

__all__ = ["Run", "TrainConfig", "train"]


class Run:
    """A finished run, opened from its folder."""

    def __init__(self, folder: str | Path):
        """Names the folder of a run, or of a search, whose best run is used. The folder is read on first use.

        Raises:
            UsageError: every method and property raises it if the folder is not a finished run.
        """
        self.folder = Path(folder)

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @functools.cached_property
    def trained(self) -> "TrainedRun":
        """Settings, classes and task of the run."""
        from inference.load import read_run

        return read_run(self.folder)

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of `metrics.json`."""
        from inference.run_record import read_metrics

        return read_metrics(self.trained)

    def predict(
        self,
        paths: str | Path | Sequence[str | Path],
        *,
        unknown: bool = False,
        unknown_below: float | None = None,
        outside: bool = False,
    ) -> "pd.DataFrame":
        """Answers for files, as `predict.py` does; the model stays loaded for the next call.

        Args:
            paths: files, folders, patterns, a .csv with a column `path` or `text`, or texts.
            unknown: answer 'unknown' for examples that are further from the training examples than 95 % of val.
            unknown_below: answer 'unknown' if no class has this probability, fraction.
            outside: follow links and paths that lead out of a folder.

        Returns:
            A row per file: path, predicted, probability, status, reason, and probability_CLASS of each class. A model
            that finds boxes has a row per box instead, with x1, y1, x2 and y2 in pixels.

        Raises:
            UsageError: none of the files can be read.
        """
        import pandas as pd

        from inference.files import find_files

        given = [paths] if isinstance(paths, str | Path) else paths
        run, finds_boxes = self.trained, self.trained.task.has_boxes
        column = run.config.data.text_column
        files = find_files([str(path) for path in given], outside, run.kind, column, columns=not finds_boxes)
        import_tensorflow()
        from inference.predict_boxes import predict_boxes
        from inference.predict_files import predict_files

        tables: list[pd.DataFrame] = []
        with quiet_console():
            if finds_boxes:
                predict_boxes(self._network(unknown), files, on_answers=tables.append)
            else:
                predict_files(self._network(unknown), files, unknown_below=unknown_below, on_answers=tables.append)
        return pd.concat(tables, ignore_index=True)

    def evaluate(
        self,
        data: str | Path | None = None,
        *,
        cache_dir: Path = DEFAULT_CACHE_DIR,
        outside: bool = False,
        group_by: str | None = None,
    ) -> dict[str, dict[str, Any]]:
        """Measures the saved model again, as `evaluate.py` does.

        Args:
            data: new examples with labels, in any form that training takes; None for those of the run.
            cache_dir: folder for decoded examples and unpacked data sets.
            outside: use new examples outside the folder of `data` as well.
            group_by: column or pattern that defines groups of new examples; None for that of the run.

        Returns:
            The figures of each split, as in `metrics.json`.
        """
        from reports.evaluation_inputs import load_evaluation

        named = None if data is None else str(data)
        inputs = load_evaluation(self.trained, named, (), cache_dir, outside, group_by)
        import_tensorflow()
        from reports.evaluation import evaluate

        return evaluate(inputs)

    def export(
        self,
        *formats: str,
        output: str | Path | None = None,
        sample: Sequence[str] = (),
        cache_dir: Path = DEFAULT_CACHE_DIR,
    ) -> dict[str, Path]:
        """Exports the model, as `export.py` does; a file is kept only if it answers as the model does.

        Args:
            formats: names such as 'onnx'; none for all.
            output: folder that gets a folder per format; None for `export/` in the run folder.
            sample: pictures to compare on; none for those that the run measured itself on.
            cache_dir: folder of the run for unpacked data sets.

        Returns:
            The folder of each format.

        Raises:
            UsageError: a format is unknown, or a folder holds something else.
            RunError: a file does not answer as the model does.
        """
        from app.errors import unknown_choice
        from app.run_folder import exports_of
        from exports.folder import check_folders
        from inference.run_record import read_sample

        place = Path(output) if output else exports_of(self.trained.folder)
        import_tensorflow()
        from exports.run import FORMATS, export_run

        for name in formats:
            if name not in FORMATS:
                raise unknown_choice("A format", name, FORMATS)
        folders = {name: place / name for name in formats or FORMATS}
        check_folders(folders.values())
        export_run(self.trained, self.metrics, read_sample(self.trained, sample, 128, cache_dir), folders)
        return folders

    @functools.cache  # noqa: B019 (a run is opened for as long as the process lasts)
    def _network(self, unknown: bool) -> "AnsweringModel":
        from inference.answering import of_run

        network = of_run(self.trained, unknown)
        return network._replace(load=functools.cache(network.load))


def train(config: TrainConfig | None = None, **settings: Any) -> Run:
    """Trains a model, as `train.py` does.

    Args:
        config: the settings; None for the defaults.
        settings: changes to `config` by name, such as `data="photos"` or `backbone="resnet50"`; see `app/config.py`.

    Raises:
        UsageError: a setting or the data cannot be used.
        RunError: memory or disk are too small, or training diverges before anything is learnt.
    """
    config = (config or TrainConfig()).replace(**settings)
    from app.run_folder import is_finished
    from cluster.pool import open_pool
    from devices.tf_config import read_worker
    from training.begun import resumed
    from training.folder import clean_up, open_folder
    from training.inputs import load_inputs

    if config.run.resume is not None and is_finished(config.run.resume):
        clean_up(config.run.resume)
        return Run(config.run.resume)
    if config.run.resume is not None and config.run.output is None:  # else these are the settings of that run
        config = resumed(config.run.resume, config.changed())
    worker = read_worker(config)
    if worker is not None:
        config = config.replace(strategy="multiworker")
    with open_folder(config, worker or 0) as opened, open_pool(opened.run) as pool:
        inputs = load_inputs(opened, pool)
        import_tensorflow()
        from training.run import train as train_inputs

        return Run(train_inputs(inputs))
