"""Every setting of a run: its meaning, its unit, its default and its check.

The flags of `train.py` are made from these fields, and a run keeps them in its `config.json`. A field that is None is
chosen from the backbone and the size of the data set, in `training/recipe.py`; `config.json` holds what was chosen.
How far that is, `SizedConfig`, `ChosenConfig` and `CompleteConfig` tell the type checker; `training/recipe.py` alone
makes them. Compare settings by `to_json`: two of different classes are never equal.
"""

import dataclasses
import os
import reprlib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal, Self, TypeVar, get_type_hints

import tyro
from platformdirs import user_cache_path
from typeguard import CollectionCheckStrategy, TypeCheckError, check_type

from app.errors import UsageError, unknown_choice
from app.files import read_json

Resize = Literal["crop", "pad", "stretch"]
DEFAULT_CACHE_DIR = user_cache_path("headstart")
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "lion"]
Strategy = Literal["auto", "one", "mirrored", "multiworker", "tpu"]
Depth = int | Literal["all"]
"""How many of the backbone's last layers learn."""
Objective = Literal["val_accuracy", "val_loss"]
"""What a search has most, or least, of."""
Value = TypeVar("Value")
Open = Annotated[Value | None, tyro.conf.arg(help_behavior_hint="")]
"""What may be left open; the docstring says what it is then, and --help nothing of None."""
Several = Annotated[tuple[Value, ...], tyro.conf.arg(help_behavior_hint="")]
"""What may be none or several; the docstring says what none means."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What a run and a search have in common."""

    # --- what it learns from -------------------------------------------------------------------------------------
    data: str = "animals"
    """Pictures to learn from: 'animals' (bundled), a folder of CLASS/picture files (with or without train/, val/ and
    test/ above them), a .csv of path,label[,split], or 'tfds:NAME'."""

    outside: bool = False
    """Also use pictures outside the folder of --data: through links, and by paths of a CSV that lead out of its
    folder."""

    val_fraction: float = 0.15
    """Fraction of the pictures kept for choosing (early stopping), where the data has no val split; 0 for none."""

    test_fraction: float = 0.15
    """Fraction of the pictures kept for the final measurement, where the data has no test split; 0 for none."""

    split_seed: Open[int] = None
    """Seed of the splits that the data does not make, so that runs of other seeds can share one test split.
    Default: --seed."""

    resize: Resize = "crop"
    """How a picture becomes a square: 'crop' keeps the middle, 'pad' adds black bars, 'stretch' changes proportions.
    Where what matters may lie at the border of a long picture, take one of the last two."""

    image_size: Open[int] = None
    """Height and width of the network's input, pixels. Default: the backbone's own, or less for small pictures."""

    positive: Open[str] = None
    """Of two classes, the one to find: sensitivity is the share of its pictures that is found, and a threshold is on
    its probability. Default: the class with fewer pictures; of equals, the second in alphabetical order."""

    # --- the network ---------------------------------------------------------------------------------------------
    weights: str = "imagenet"
    """Weights of the backbone: 'imagenet', 'none' (random), or a .h5 or .weights.h5 file without top."""

    pooling: Literal["avg", "max"] = "avg"
    """How the backbone's last feature map becomes one vector."""

    # --- how it learns -------------------------------------------------------------------------------------------
    schedule: Literal["cosine", "constant"] = "cosine"
    """The learning rate of both phases after half an epoch of warming up: it falls to 0 along a cosine, or stays."""

    class_weights: bool = False
    """Weight pictures so that every class counts equally, however few it has: to learn from, and on val to stop, to
    choose the best weights and to calibrate. Accuracies and what metrics.json holds count every picture once."""

    fine_tune_augment: Open[Literal["views", "fresh", "none"]] = None
    """Augmentation of the fine-tuning phase, as --augment of train.py has it. Default: as that; but 'fresh' in place of
    'views' where less than a quarter of the network's work is in frozen layers, as with --trainable-layers all or
    --weights none. 'fresh' runs the whole network in every step, and takes nothing of --cache-gb."""

    patience: int = 10
    """Epochs without a lower validation loss after which a phase stops; its best weights are kept."""

    seed: int = 0
    """Seed of everything random. The same seed gives the same result."""

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """In which the network computes while it learns; what is saved and measured is float32. 'auto' takes the fastest of
    this machine: bfloat16 on CPUs and GPUs that have it, float16 on older GPUs. On CPUs, networks of depthwise
    convolutions are slower in bfloat16, and learn in float32 all the same."""

    # --- where things go; never part of config.json, so that a copied config cannot write into an old run ----------
    output: Open[Path] = None
    """Folder of the run. Default: one below runs/, named by time, backbone and data."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder for what can be computed again, such as unpacked data sets and what the frozen layers made of them."""

    cache_gb: float = 20.0
    """Most that decoded pictures and the frozen layers' results may take there, GB; those unused for longest go first.
    The result does not depend on it: where fine-tuning needs more, the run says how much before it computes anything.
    With 0, heads can be trained, and --fine-tune-augment fresh."""

    strategy: Strategy = "auto"
    """What the network learns on: 'one' device, all GPUs of this machine ('mirrored'), several machines ('multiworker',
    named by TF_CONFIG), or a 'tpu'. 'auto' takes what is there. The result is the same but for rounding."""

    devices: Open[int] = None
    """How many GPUs of this machine are used. Default: all. Without any, the CPU is split into as many, to try it."""

    strict: bool = False
    """End with an error if any picture has to be set aside."""

    def __post_init__(self):
        for name in ("val_fraction", "test_fraction"):
            check_setting(self, name, lambda value: 0 <= value < 1, "at least 0 and below 1")
        if self.val_fraction + self.test_fraction >= 1:
            raise UsageError(
                f"--val-fraction and --test-fraction must leave something to train on; "
                f"received {self.val_fraction} and {self.test_fraction}."
            )
        check_setting(self, "image_size", lambda value: 1 <= value <= 4096, "from 1 to 4096")
        check_setting(self, "devices", lambda value: value >= 1, "at least 1")
        check_setting(self, "patience", lambda value: value >= 1, "at least 1")
        check_setting(self, "cache_gb", lambda value: value >= 0, "at least 0")
        for name in ("seed", "split_seed"):
            check_setting(self, name, lambda value: 0 <= value < 2**32, "a whole number from 0 to 4294967295")

    @property
    def seed_of_split(self) -> int:
        """The seed of the split, also where `split_seed` is open, as in a `config.json` of before it was a setting."""
        return self.seed if self.split_seed is None else self.split_seed


@dataclasses.dataclass(frozen=True)
class TrainConfig(DataConfig):
    """Train an image classifier: a pretrained backbone without its top, and a new head on it."""

    backbone: str = "efficientnet_lite0"
    """Pretrained network, such as resnet50, mobilenet or efficientnetb0; the README lists all."""

    head_units: Several[int] = ()
    """Units of each dense layer between the pooled features and the output, such as '256 64'. Default: no such
    layer."""

    dropout: float = 0.2
    """Fraction of values dropped before each dense layer of the head while training."""

    trainable_layers: Open[Depth] = None
    """Last layers of the backbone to fine-tune after the head: a number, 'all', or 0. Default: its last blocks."""

    head_epochs: Open[int] = None
    """Maximum epochs of training the head on the frozen backbone. Default: those of 4,500 steps, between 8 and 60."""

    fine_tune_epochs: Open[int] = None
    """Maximum epochs of fine-tuning the unfrozen layers after that. Default: 2; 0 with fewer than 1,000 training
    pictures; 30 from random weights."""

    learning_rate: Open[float | Literal["find"]] = None
    """Peak learning rate of the head phase; 'find' looks for it in a short training with rising rates. Default: by the
    spread of the features."""

    fine_tune_learning_rate: Open[float] = None
    """Peak learning rate of the fine-tuning phase. Default: 1e-4 for batches of 32 pictures, less where the phase is
    short."""

    layer_decay: Open[float] = None
    """Factor on learning rate and weight decay of fine-tuning for each block further from the output, such as 0.8.
    Default: 1."""

    batch_size: Open[int] = None
    """Pictures per training step, of all devices together. Default: 32."""

    optimizer: Optimizer = "adam"
    """Optimizer of both phases; sgd has Nesterov momentum 0.9."""

    weight_decay: Open[float] = None
    """Fraction of each weight taken off per step and unit of learning rate; biases and the scales and shifts of
    normalisation layers are left as they are. Default: 0.004 for adamw, else none."""

    augment: Literal["views", "fresh", "none"] = "views"
    """Random flips, crops, brightness and contrast for training pictures: 'views' makes a few versions of each, runs
    them through the frozen layers once and takes another in each epoch; 'fresh' makes new ones in every epoch, for
    which the whole network has to run; or 'none'. See also --fine-tune-augment."""

    views: Open[int] = None
    """Versions of each training picture, the unchanged one included; one means no augmentation. Default: 2."""

    # --- beside the run; not part of config.json either -------------------------------------------------------------
    resume: Open[Path] = None
    """Folder of an unfinished run to go on with, under its own settings: the result is that of a run that was never
    stopped. Default: a new run."""

    checkpoint_seconds: float = 60.0
    """Seconds between saves of an unfinished phase: what a kill may cost. Ctrl-C and SIGTERM save first."""

    tensorboard: bool = False
    """Also write every epoch for TensorBoard, to the folder tensorboard/ of the run."""

    def __post_init__(self):
        super().__post_init__()
        check_setting(self, "checkpoint_seconds", lambda value: value >= 0, "at least 0")
        check_setting(self, "dropout", lambda value: 0 <= value < 1, "at least 0 and below 1")
        for name in ("batch_size", "views"):
            check_setting(self, name, lambda value: value >= 1, "at least 1")
        for name in ("head_epochs", "fine_tune_epochs"):
            check_setting(self, name, lambda value: value >= 0, "at least 0")
        check_setting(self, "weight_decay", lambda value: 0 <= value <= 10, "at least 0 and at most 10")
        check_setting(self, "fine_tune_learning_rate", lambda value: 0 < value <= 10, "above 0 and at most 10")
        if self.learning_rate != "find":
            check_setting(self, "learning_rate", lambda value: 0 < value <= 10, "above 0 and at most 10, or 'find'")
        elif self.head_epochs == 0 or (self.head_epochs is None and self.weights == "none"):
            why = "--head-epochs is 0" if self.head_epochs == 0 else "--weights none leaves it out"
            raise UsageError(
                f"--learning-rate find needs a head phase, and {why}. Raise --head-epochs, or leave 'find' out."
            )
        check_setting(self, "layer_decay", lambda value: 0 < value <= 1, "above 0 and at most 1")
        check_setting(self, "head_units", lambda value: all(units >= 1 for units in value), "numbers of at least 1")
        if self.trainable_layers != "all":
            check_setting(self, "trainable_layers", lambda value: value >= 0, "'all', or a number of at least 0")

    def to_json(self) -> dict[str, Any]:
        """The settings that decide the result, as `config.json` holds them."""
        return {name: value for name, value in dataclasses.asdict(self).items() if name not in PLACES}

    @classmethod
    def from_file(cls, path: Path, flag: str = "--config") -> Self:
        """Reads a `config.json`.

        Args:
            path: of the file.
            flag: that named it.

        Raises:
            UsageError: the file is missing, is no JSON object, or has a setting of an unknown name or a wrong value.
        """
        try:
            settings = read_json(Path(path))
        except OSError as error:
            raise UsageError(f"{flag} must be a run's config.json; '{path}': {error.strerror}.") from None
        except ValueError as error:
            raise UsageError(f"{flag} must be a run's config.json; '{path}' is no JSON: {error}.") from None
        if not isinstance(settings, dict):
            raise UsageError(f"{flag} must hold a JSON object of settings; '{path}' holds something else.")
        fields = [field.name for field in dataclasses.fields(cls) if field.name not in PLACES]
        for name in settings:
            if name not in fields:
                raise unknown_choice(f"A setting of '{path}'", reprlib.repr(name)[1:-1], fields)
        if isinstance(settings.get("head_units"), list):
            settings["head_units"] = tuple(settings["head_units"])
        types = get_type_hints(cls)
        for name, value in settings.items():
            try:
                check_type(value, types[name], collection_check_strategy=CollectionCheckStrategy.ALL_ITEMS)
                _check_json_values(value, types[name])
            except (TypeCheckError, ValueError):
                raise UsageError(f"The setting '{name}' of '{path}' cannot be {reprlib.repr(value)}.") from None
        return cls(**settings)


@dataclasses.dataclass(frozen=True, kw_only=True)
class SizedConfig(TrainConfig):
    """The settings with the size of the pictures chosen."""

    image_size: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class ChosenConfig(SizedConfig):
    """The settings with all chosen that belongs to the network and the number of pictures."""

    trainable_layers: Depth
    head_epochs: int
    fine_tune_epochs: int
    fine_tune_learning_rate: float
    batch_size: int
    views: int


@dataclasses.dataclass(frozen=True, kw_only=True)
class CompleteConfig(ChosenConfig):
    """The settings with the learning rate of the head as well, which belongs to the features: none is open."""

    learning_rate: float


def _check_json_values(value: Any, kind: Any) -> None:
    """Raises a ValueError for what has the right type in Python, and is no setting."""
    for item in value if isinstance(value, tuple) else (value,):
        if isinstance(item, bool) and kind is not bool:
            raise ValueError("true and false are no numbers")
        if isinstance(item, int) and abs(item) >= 2**32:
            raise ValueError("more than any setting can be")
        if isinstance(item, str) and b"\0" in os.fsencode(item):  # an error as well for what no path can hold
            raise ValueError("no text")


SECTIONS = {
    "data": (
        *("data", "outside", "val_fraction", "test_fraction", "split_seed", "resize", "image_size"),
        "positive",
    ),
    "network": ("backbone", "weights", "pooling", "head_units", "dropout", "trainable_layers"),
    "training": (
        *("head_epochs", "fine_tune_epochs", "learning_rate", "fine_tune_learning_rate", "layer_decay", "schedule"),
        *("batch_size", "optimizer", "weight_decay", "augment", "fine_tune_augment", "views"),
        *("class_weights", "patience", "seed"),
    ),
    "search": (
        *("oracle", "objective", "max_trials", "max_minutes", "finalists", "repeats", "workers"),
        "rank_backbones",
    ),
    "run": (
        *("output", "resume", "checkpoint_seconds", "tensorboard", "strict", "cache_dir", "cache_gb"),
        *("strategy", "devices", "precision"),
    ),
}
"""What `--help` puts together, of train.py and of tune.py."""

PLACES = (
    *("output", "cache_dir", "cache_gb", "strategy", "devices", "strict"),
    *("resume", "checkpoint_seconds", "tensorboard"),
)
"""Settings that change nothing of the result, but for rounding."""


def check_setting(config: object, name: str, is_valid: Callable[[Any], bool], expected: str) -> None:
    """Raises a `UsageError` if a setting is neither open nor valid."""
    value = getattr(config, name)
    if value is not None and not is_valid(value):
        shown = " ".join(map(str, value)) if isinstance(value, tuple) else value
        raise UsageError(f"--{name.replace('_', '-')} must be {expected}; received {shown}.")
