"""The search space: hyperparameters with their ranges, and the settings of a run for drawn values.

To search something else, add a line to `SPACE`.
"""

import contextlib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple, Self

from annotated_types import Gt

from app.config import RunConfig, TrainableLayers, TrainConfig
from app.custom_parts import BOX_OBJECTIVES, check_objective
from app.decision import objective_of
from app.errors import UsageError
from app.fields import Positive, Settings, Text, flag_of, settings
from app.flags import given_flags

if TYPE_CHECKING:
    import keras_tuner  # which imports Keras

    from tasks.table import Task


class Dimension(NamedTuple):
    """A hyperparameter of the search, which has the name of a setting of `train.py`."""

    values: tuple[Any, ...]
    """Choices, or the lowest and the highest value of a range."""
    help: str
    sampling: Literal["log", "linear"] | None = None
    """Scale on which a range is sampled; None for choices."""
    phase: Literal["head", "fine_tune"] | None = None
    """The phase that it belongs to; it is drawn only for trials that end with that phase."""


SPACE: dict[str, Dimension] = {
    "backbone": Dimension(("efficientnet_lite0",), "Pretrained networks to choose from."),
    "trainable_layers": Dimension(
        (), "Numbers of last layers to fine-tune, to choose from. Default: none, the last block, the last two blocks."
    ),
    "learning_rate": Dimension(
        (1e-4, 1e-1), "Range of the head's peak learning rate where nothing is fine-tuned.", "log", "head"
    ),
    "head_epochs": Dimension((10, 20, 40), "Maximum epochs of the head, for trials without fine-tuning.", phase="head"),
    "fine_tune_learning_rate": Dimension(
        (1e-5, 1e-3), "Range of the peak learning rate of fine-tuning.", "log", "fine_tune"
    ),
    "fine_tune_epochs": Dimension((1, 2, 4), "Maximum epochs of fine-tuning, to choose from.", phase="fine_tune"),
    "batch_size": Dimension((16, 32, 64), "Examples per training step, to choose from."),
    "optimizer": Dimension(("adam", "adamw", "sgd"), "Optimizers to choose from."),
    "head_units": Dimension((0, 128), "Units of a dense layer before the output, to choose from; 0 for none."),
    "dropout": Dimension((0.0, 0.5), "Range of the fraction of values dropped before each dense layer.", "linear"),
    "weight_decay": Dimension((1e-5, 1e-1), "Range of the weight decay.", "log"),
    "views": Dimension((2,), "Versions of each training example, to choose from; one means no augmentation."),
}
"""The order is that of the columns of `trials.csv`; grid varies the last one first."""


NOT_SEARCHED = (
    *("folds", "effort", "head_solver", "deeper_layers", "deeper_epochs", "augment", "layer_decay"),
    *("resume", "checkpoint_seconds", "tensorboard"),
)
"""Settings of `train.py` that a search does not have: trials fine-tune once, from views, at one rate for all layers."""


@settings
class SearchConfig(Settings):
    """Settings of the search itself."""

    oracle: Literal["random", "bayesian", "hyperband", "grid"] = "random"
    """KerasTuner's oracle that proposes the trials. bayesian takes a second or two for each, which pays if most trials
    fine-tune. hyperband chooses the epochs itself. grid takes the values of every flag as choices and tries all."""

    objective: Text = "val_accuracy"
    """Metric of the val split that the search optimises: val_accuracy, val_loss, val_balanced_accuracy (every class
    counts alike), val_macro_f1, val_roc_auc, val_sensitivity_at_specificity_95 (any percentage, or the other way
    round), or val_NAME of a metric of custom.py, the larger the better; for boxes val_ap (the default), val_ap50
    or val_loss. Ties go to the lower val_loss. With
    --sensitivity 0.98, the default is val_specificity_at_sensitivity_98; likewise with --specificity."""

    max_trials: Positive = 50
    """Maximum number of trials."""

    finalists: Positive = 1
    """Number of best trials to repeat with other seeds before choosing; the best mean wins. 1 repeats none."""

    repeats: Positive = 2
    """Further seeds for each finalist, if there are several."""

    trial_minutes: Annotated[float, Gt(0)] = 60.0
    """Minutes that a trial may take on a worker; a longer trial is stopped and fails."""

    rank_backbones: bool = False
    """Rank pretrained backbones in place of a search, by the accuracy of a ridge regression on their features: those of
    --backbone, or by default all whose weights are on this machine. Nothing is trained."""


@settings
class SearchFlags(TrainConfig):
    """Search the hyperparameters of train.py. Several values of a hyperparameter are choices; two values of a learning
    rate, dropout or weight decay are the ends of its range; one value is fixed."""

    search: SearchConfig = SearchConfig()


class TuneConfig(NamedTuple):
    """Settings of a search."""

    fixed: TrainConfig
    """Settings that all trials share; settings of `space` have their defaults."""
    space: dict[str, tuple[Any, ...]]
    """Values of each hyperparameter of `SPACE`; empty for `trainable_layers` if the backbone decides."""
    search: SearchConfig

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Makes settings from values by name; those of a hyperparameter are a tuple.

        Raises:
            UsageError: a value is invalid.
        """
        space = {name: tuple(values.pop(name, dimension.values)) for name, dimension in SPACE.items()}
        flags = SearchFlags.of(**values)
        if "objective" not in values and (chosen := objective_of(flags.decision.rule)):
            flags = flags.replace(objective=chosen)
        for name, given in space.items():
            space[name] = tuple(_checked(name, value) for value in given)
            _check_values(name, space[name], flags.search.oracle)
        _check_run(flags)
        return cls(TrainConfig(flags.data, flags.model, flags.training, flags.run, flags.decision), space, flags.search)

    def flat(self) -> dict[str, Any]:
        """Returns all settings by name; those of a hyperparameter are a tuple, or None if the backbone decides."""
        shared = {name: value for name, value in self.fixed.flat().items() if name not in NOT_SEARCHED}
        return {**shared, **{name: values or None for name, values in self.space.items()}, **self.search.flat()}

    def of_task(self, task: "Task") -> Self:
        """Returns the settings for a task; detection has its own default ranges and objective.

        Raises:
            UsageError: the objective does not fit the task.
        """
        objective, default = self.search.objective, SearchConfig().objective
        if not task.has_boxes:
            if objective in BOX_OBJECTIVES:
                raise UsageError(f"--objective {objective} is for pictures with boxes, and this data has none.")
            return self
        chosen = BOX_OBJECTIVES[0] if objective == default else objective
        if chosen not in (*BOX_OBJECTIVES, "val_loss"):
            known = ", ".join((*BOX_OBJECTIVES, "val_loss"))
            raise UsageError(f"--objective must be one of {known} for pictures with boxes; received '{objective}'.")
        space = {
            name: task.space.get(name, each) if each == SPACE[name].values else each
            for name, each in self.space.items()
        }
        return self._replace(space=space, search=self.search.replace(objective=chosen))

    def to_json(self) -> dict[str, Any]:
        """Returns the settings that the trials depend on, by name; others may change when a search is resumed."""
        places = {name for _, name, _ in RunConfig.fields()}
        how = {name for _, name, _ in SearchConfig.fields()} - {"oracle", "objective"} | {"max_minutes"}
        return {name: value for name, value in self.flat().items() if name not in places | how}

    def replace(self, **values: Any) -> Self:
        """Returns the settings with some values replaced."""
        given = {name: value for name, value in self.flat().items() if value is not None}
        return self.of(**{**given, **values})

    def of_run(self, **values: Any) -> TrainConfig:
        """Returns the settings of a run on the same examples, in its own folder."""
        always: dict[str, Any] = {"output": None, "max_minutes": None, "split_seed": self.fixed.seed_of_split}
        return self.fixed.replace(**always | values)


def parse_search(args: Sequence[str] | None = None) -> TuneConfig:
    """Reads the flags of `tune.py`; see `app.flags.given_flags`."""
    several = {
        name: f"{each.help} (default: {' '.join(map(str, each.values))})" if each.values else each.help
        for name, each in SPACE.items()
    }
    return TuneConfig.of(**given_flags(SearchFlags, args, several, NOT_SEARCHED))


def search_space(config: TuneConfig, depths: Sequence[TrainableLayers]) -> "keras_tuner.HyperParameters":
    """Declares the search space of the oracle; settings with one value are not part of it.

    Args:
        config: settings of the search.
        depths: choices of `trainable_layers`, of all backbones together.
    """
    import keras_tuner

    space = keras_tuner.HyperParameters()
    of_phase = {
        "head": [number for number, count in enumerate(depths) if count == 0],
        "fine_tune": [number for number, count in enumerate(depths) if count != 0],
    }
    for name, dimension in SPACE.items():
        values = list(range(len(depths))) if name == "trainable_layers" else list(config.space[name])
        if any(isinstance(value, float) for value in values):  # KerasTuner takes values of one type
            values = [float(value) for value in values]
        numbers = of_phase.get(dimension.phase or "", list(range(len(depths))))
        # hyperband chooses the epochs
        if len(values) < 2 or not numbers or (config.search.oracle == "hyperband" and name.endswith("epochs")):
            continue
        is_conditional = len(numbers) < len(depths)
        with space.conditional_scope("trainable_layers", numbers) if is_conditional else contextlib.nullcontext():
            if dimension.sampling is None or config.search.oracle == "grid":
                space.Choice(name, values, default=values[0])
            else:
                space.Float(name, *values, sampling=dimension.sampling)
    return space


def trial_config(
    config: TuneConfig, depths: Mapping[str, Sequence[TrainableLayers]], drawn: Mapping[str, Any]
) -> TrainConfig:
    """Makes the settings of a trial, as for `train.py`; `training/recipe.py` decides open ones.

    Args:
        config: settings of the search.
        depths: choices of `trainable_layers` by backbone.
        drawn: values from the oracle.
    """
    values = {name: drawn.get(name, given[0]) for name, given in config.space.items() if given}
    known = depths[values["backbone"]]  # fewer than those of another backbone, perhaps
    values["trainable_layers"] = known[min(drawn.get("trainable_layers", 0), len(known) - 1)]
    phase = "head" if values["trainable_layers"] == 0 else "fine_tune"
    for name, dimension in SPACE.items():
        if dimension.phase not in (None, phase):
            values[name] = 0 if name == "fine_tune_epochs" else None
        elif name.endswith("epochs") and "tuner/epochs" in drawn:
            # Hyperband counts in epochs of the head; fine-tuning gets the same share of its maximum.
            share = drawn["tuner/epochs"] / max(config.space["head_epochs"])
            values[name] = math.ceil(share * max(config.space[name]))
    settings = {name: _as_setting(name, value) for name, value in values.items()}
    return config.of_run(**settings, head_solver="optimizer" if phase == "head" else None)


def default_config(config: TuneConfig, backbone: str) -> TrainConfig:
    """Makes the default settings of `train.py`; all that the search varies, or fixes by its own default, stays open.

    Args:
        config: settings of the search.
        backbone: one of the search's backbones.
    """
    fixed = {
        name: _as_setting(name, values[0])
        for name, values in config.space.items()
        if len(values) == 1 and values != SPACE[name].values
    }
    return config.of_run(**fixed | {"backbone": backbone})


def _as_setting(name: str, value: Any) -> Any:
    """Turns a value of the search into a setting of `train.py`, where a head may have several layers."""
    return ((value,) if value else ()) if name == "head_units" else value


def _checked(name: str, value: Any) -> Any:
    """Converts a value to the type of its setting."""
    if name == "head_units" and value in (0, "0"):
        return 0
    checked = TrainConfig.of(**{name: [value] if name == "head_units" else value}).flat()[name]
    return checked[0] if name == "head_units" else checked


def _check_values(name: str, values: tuple[Any, ...], oracle: str) -> None:
    """Raises a UsageError for values that a search cannot choose from."""
    flag, shown, dimension = flag_of(name), " ".join(map(str, values)), SPACE[name]
    if not values and dimension.values:
        raise UsageError(f"{flag} needs at least one value.")
    if len(set(values)) < len(values):
        raise UsageError(f"{flag} names a value twice: {shown}.")
    if name.endswith("epochs") and 0 in values:
        raise UsageError(f"{flag} must be whole numbers of at least 1; received {shown}.")
    if "find" in values:
        raise UsageError(f"{flag} find is for train.py. A search needs numbers.")
    if dimension.sampling and oracle != "grid" and (len(values) > 2 or values[0] > values[-1]):
        raise UsageError(f"{flag} must be one value, or lowest and highest; received {shown}.")
    if dimension.sampling == "log" and oracle != "grid" and len(values) > 1 and values[0] == 0:
        raise UsageError(f"{flag} must be above 0 to be a range; received {shown}.")


def _check_run(flags: SearchFlags) -> None:
    """Raises a UsageError for settings of a run that a search does not support."""
    run = flags.run
    check_objective(flags.search.objective)
    if run.strategy == "multiworker":
        raise UsageError(
            "--strategy multiworker is for train.py. A search shares its trials among machines: see the README."
        )
    if flags.training.precision == "auto":
        raise UsageError("--precision auto is for train.py. All trials of a search need one: name it.")
    if run.has_workers and (run.strategy not in ("auto", "one") or run.devices is not None):
        raise UsageError("Workers share the devices; leave out --strategy and --devices.")
    if flags.data.val_fraction == 0:
        raise UsageError("A search chooses by the val split: --val-fraction must be above 0.")
