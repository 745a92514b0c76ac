"""What is searched: the flags of `tune.py` with their ranges, and how values drawn from them become a `TrainConfig`.

To search something else, see CONTRIBUTING.md.
"""

import contextlib
import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from app.config import DataConfig, Depth, Objective, Open, Optimizer, TrainConfig, check_setting
from app.errors import UsageError

if TYPE_CHECKING:
    import keras_tuner  # which imports Keras

HYPERPARAMETERS = (
    "backbone",
    "trainable_layers",
    "learning_rate",
    "fine_tune_learning_rate",
    "batch_size",
    "head_epochs",
    "fine_tune_epochs",
    "optimizer",
    "head_units",
    "dropout",
    "weight_decay",
    "views",
)
NOT_ASKED = (
    "output",
    "cache_dir",
    "cache_gb",
    "strategy",
    "devices",
    "strict",
    "workers",
    "cluster",
    "trial_minutes",
    "max_minutes",
    "max_trials",
    "finalists",
    "repeats",
    "rank_backbones",
)
"""Settings that may be others when a search goes on."""


@dataclasses.dataclass(frozen=True)
class TuneConfig(DataConfig):
    """Search the hyperparameters of train.py. Where a flag takes several values, the search chooses among them; two
    values of a rate are its lowest and highest; one value is fixed."""

    # --- what is searched ----------------------------------------------------------------------------------------
    backbone: tuple[str, ...] = ("efficientnet_lite0",)
    """Pretrained networks to choose from."""

    trainable_layers: Open[tuple[Depth, ...]] = None
    """Numbers of last layers of the backbone to fine-tune, to choose from. Default: none, its last block, its last two
    blocks."""

    learning_rate: tuple[float, ...] = (1e-4, 1e-1)
    """Range of the head's peak learning rate, where nothing is fine-tuned; drawn on a logarithmic scale. Where layers
    are, the head is solved first at the rate that train.py takes by itself."""

    fine_tune_learning_rate: tuple[float, ...] = (1e-5, 1e-3)
    """Range of the peak learning rate of fine-tuning; drawn on a logarithmic scale."""

    batch_size: tuple[int, ...] = (16, 32, 64)
    """Pictures per training step, to choose from."""

    head_epochs: tuple[int, ...] = (10, 20, 40)
    """Maximum epochs of the head, where nothing is fine-tuned, to choose from."""

    fine_tune_epochs: tuple[int, ...] = (1, 2, 4)
    """Maximum epochs of fine-tuning, to choose from."""

    optimizer: tuple[Optimizer, ...] = ("adam", "adamw", "sgd")
    """Optimizers to choose from."""

    head_units: tuple[int, ...] = (0, 128)
    """Units of a dense layer before the output, to choose from; 0 for none."""

    dropout: tuple[float, ...] = (0.0, 0.5)
    """Range of the fraction of values dropped before each dense layer."""

    weight_decay: tuple[float, ...] = (1e-5, 1e-1)
    """Range of the weight decay; drawn on a logarithmic scale."""

    views: tuple[int, ...] = (2,)
    """Versions of each training picture, to choose from; one means no augmentation."""

    # --- how it is searched --------------------------------------------------------------------------------------
    oracle: Literal["random", "bayesian", "hyperband", "grid"] = "random"
    """KerasTuner's oracle that proposes the trials. A trial of a head takes less time than bayesian takes to propose
    one; where most trials fine-tune, bayesian is worth its second or two. hyperband chooses the epochs itself. grid
    takes the values of every flag as choices, those of rates as well, and tries all, the last flags first."""

    objective: Objective = "val_accuracy"
    """What the best trial has most, or least, of; equals are told apart by val_loss."""

    max_trials: int = 50
    """Most trials."""

    max_minutes: Open[float] = None
    """Minutes after which no further trials are begun. Default: no limit."""

    finalists: int = 1
    """Best trials to repeat with other seeds, on the same split, before choosing; the best mean wins. 1 chooses
    without."""

    repeats: int = 2
    """Further seeds for each finalist, if there are several."""

    workers: Open[int] = None
    """Processes that run trials, each with its share of the cores, or with a GPU of its own. Default: this process;
    with --cluster, one for each GPU, or for each machine."""

    cluster: Open[str] = None
    """Ray cluster whose machines run the trials: 'auto' for the one of this machine, or HOST:PORT. Default: none."""

    trial_minutes: float = 60.0
    """Minutes that a trial may take on a worker; one that takes longer is ended and fails."""

    rank_backbones: bool = False
    """Instead of searching, rank the pretrained backbones by what simple classifiers get right on their features:
    those of --backbone, or by default all whose weights are on this machine. Nothing is trained."""

    def __post_init__(self):
        super().__post_init__()
        if self.strategy == "multiworker":
            raise UsageError(
                "--strategy multiworker is for train.py. A search shares its trials among machines: see the README."
            )
        if self.precision == "auto":
            raise UsageError("--precision auto is for train.py. All trials of a search need one: name it.")
        if self.has_workers and (self.strategy not in ("auto", "one") or self.devices is not None):
            raise UsageError("Workers share the devices; leave out --strategy and --devices.")
        for name, values in dataclasses.asdict(self).items():
            if isinstance(values, tuple):
                if not values:
                    raise UsageError(f"--{name.replace('_', '-')} needs at least one value.")
                if len(set(values)) < len(values):
                    raise UsageError(f"--{name.replace('_', '-')} names a value twice: {' '.join(map(str, values))}.")
                if isinstance(values[0], float) and self.oracle != "grid":
                    check_setting(self, name, _is_range, "one value, or lowest and highest")
        for name in ("max_trials", "finalists", "repeats", "workers"):
            check_setting(self, name, lambda value: value >= 1, "at least 1")
        for name in ("max_minutes", "trial_minutes"):
            check_setting(self, name, lambda value: value > 0, "above 0")
        for name in ("learning_rate", "fine_tune_learning_rate"):
            check_setting(self, name, lambda values: values[0] > 0 and values[-1] <= 10, "above 0 and at most 10")
        check_setting(self, "dropout", lambda values: values[0] >= 0 and values[-1] < 1, "at least 0 and below 1")
        decay = self.weight_decay
        check_setting(self, "weight_decay", lambda _: len(decay) == 1 or decay[0] > 0, "above 0 to be a range")
        check_setting(self, "weight_decay", lambda values: values[0] >= 0 and values[-1] <= 10, "from 0 to 10")
        for name in ("batch_size", "head_epochs", "fine_tune_epochs", "views"):
            check_setting(self, name, lambda values: min(values) >= 1, "at least 1")
        check_setting(self, "head_units", lambda values: min(values) >= 0, "at least 0")
        check_setting(
            self,
            "trainable_layers",
            lambda values: all(count == "all" or count >= 0 for count in values),
            "'all', or numbers of at least 0",
        )
        if self.val_fraction == 0:
            raise UsageError("A search chooses by the val split: --val-fraction must be above 0.")

    @property
    def has_workers(self) -> bool:
        """Whether other processes run the trials."""
        return self.cluster is not None or (self.workers or 1) > 1

    def train_config(self, **settings: Any) -> TrainConfig:
        """The settings of a run on the same pictures, in a folder of its own."""
        shared = {field.name: getattr(self, field.name) for field in dataclasses.fields(DataConfig)}
        return TrainConfig(**{**shared, "output": None, "split_seed": self.seed_of_split, **settings})


def search_space(config: TuneConfig, depths: Sequence[Depth]) -> "keras_tuner.HyperParameters":
    """Declares what the oracle draws from; settings of one value are not part of it.

    Args:
        config: the ranges.
        depths: choices of `trainable_layers`; where there are several backbones, of any of them.
    """
    import keras_tuner

    space = keras_tuner.HyperParameters()

    def choice(name: str, values: Sequence[Any]) -> None:
        if len(values) > 1:
            space.Choice(name, list(values), default=values[0])

    def rate(name: str, values: Sequence[float], sampling: str = "log") -> None:
        if config.oracle == "grid":
            choice(name, values)
        elif len(values) > 1:
            space.Float(name, *values, sampling=sampling)

    choice("backbone", config.backbone)
    choice("depth", range(len(depths)))
    frozen = [number for number, count in enumerate(depths) if count == 0]
    deeper = [number for number, count in enumerate(depths) if count != 0]
    for numbers, rate_name, epochs_name in (
        (frozen, "learning_rate", "head_epochs"),
        (deeper, "fine_tune_learning_rate", "fine_tune_epochs"),
    ):
        if not numbers:
            continue
        with space.conditional_scope("depth", numbers) if frozen and deeper else contextlib.nullcontext():
            rate(rate_name, getattr(config, rate_name))
            if config.oracle != "hyperband":  # which has epochs of its own
                choice(epochs_name, getattr(config, epochs_name))
    choice("batch_size", config.batch_size)
    choice("optimizer", config.optimizer)
    choice("head_units", config.head_units)
    rate("dropout", config.dropout, sampling="linear")
    rate("weight_decay", config.weight_decay)
    choice("views", config.views)
    return space


def hyperband_epochs(config: TuneConfig) -> int:
    """The most epochs that hyperband counts with; fine-tuning takes the same share of its own."""
    return max(config.head_epochs)


def trial_config(config: TuneConfig, depths: Mapping[str, Sequence[Depth]], values: Mapping[str, Any]) -> TrainConfig:
    """Makes the settings of a trial, those of `train.py`; what it leaves open `training/recipe.py` sets.

    Args:
        config: of the search.
        depths: choices of `trainable_layers` by backbone.
        values: what the oracle has drawn.
    """

    def value(name: str) -> Any:
        return values.get(name, getattr(config, name)[0])

    def epochs(name: str) -> int:
        share = values.get("tuner/epochs", math.nan) / hyperband_epochs(config)
        return value(name) if math.isnan(share) else math.ceil(share * max(getattr(config, name)))

    backbone = value("backbone")
    trainable_layers = depths[backbone][values.get("depth", 0)]
    settings = {name: value(name) for name in ("batch_size", "optimizer", "dropout", "weight_decay", "views")}
    if trainable_layers == 0:
        phase = {"learning_rate": value("learning_rate"), "head_epochs": epochs("head_epochs"), "fine_tune_epochs": 0}
    else:
        rate = value("fine_tune_learning_rate")
        phase = {"fine_tune_learning_rate": rate, "fine_tune_epochs": epochs("fine_tune_epochs")}
    units = value("head_units")
    return config.train_config(
        backbone=backbone,
        trainable_layers=trainable_layers,
        head_units=(units,) if units else (),
        **settings,
        **phase,
    )


def _is_range(values: Sequence[float]) -> bool:
    return len(values) <= 2 and values[0] <= values[-1]
