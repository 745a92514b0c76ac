"""Every setting of a run: meaning, unit, default and limits.

The flags of `train.py` are made from these fields. A run stores all but those of `RunConfig` in its `config.json`. If a
field is None, `training/recipe.py` chooses its value by the backbone and the data, and `config.json` has the chosen
value.
"""

import reprlib
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from annotated_types import Ge, Gt, Le, Lt

from app.decision import DecisionConfig
from app.errors import UsageError, unknown_choice
from app.fields import LARGEST, Fraction, Natural, Positive, Rate, Settings, Text, settings
from app.files import read_json
from app.run_config import DEFAULT_CACHE_DIR as DEFAULT_CACHE_DIR
from app.run_config import RunConfig as RunConfig

KindName = Literal["image", "text", "sound"]
Resize = Literal["crop", "pad", "stretch"]
Optimizer = Literal["adam", "adamw", "sgd", "rmsprop", "nadam", "adagrad", "lion"]
Augment = Literal["views", "fresh", "none"]
HeadSolver = Literal["lbfgs", "optimizer"]
Effort = Literal["quick", "standard", "best"]
Epochs = Natural | Annotated[float, Gt(0), Lt(LARGEST)]
"""Number of passes over the training examples; the last may be partial."""
TrainableLayers = Natural | Literal["all"]
"""Number of the backbone's last layers to train."""


@settings
class DataConfig(Settings):
    """Settings of the data: where the examples are, and how they are split and prepared."""

    data: Text = "animals"
    """Examples to learn from: a folder of CLASS/file (with or without train/, val/ and test/ above them), a .csv of
    path,label[,split][,group] or text,label[,split][,group], or 'tfds:NAME'. With boxes to find: a COCO .json, a folder
    of YOLO or Pascal VOC, a .csv of path,label,x1,y1,x2,y2. To try: 'animals' (bundled pictures), 'docstrings' (texts
    from installed packages), 'notes' (generated recordings) and 'canvases' (generated pictures with boxes)."""

    kind: KindName | None = None
    """Kind of the examples. Default: by the endings of the files; 'text' for a .csv with a column text."""

    text_column: Text | None = None
    """Column of the .csv, or feature of the 'tfds:NAME', with the text. Default: the one named text, or a data set's
    only feature of texts."""

    outside: bool = False
    """Also use pictures outside the folder of --data, to which links or the paths of a CSV lead."""

    val_fraction: Fraction = 0.15
    """Fraction of the examples kept for choosing (early stopping), if the data has no val split; 0 for none."""

    test_fraction: Fraction = 0.15
    """Fraction of the examples kept for the final measurement, if the data has no test split; 0 for none."""

    folds: Annotated[int, Ge(2), Le(20)] | None = None
    """Folds of cross-validation, in place of a val split: a head trained on the other folds predicts each example
    outside test, and the run reports these predictions as val. The final head is trained on all folds. Nothing is
    fine-tuned. Default: none; a val split."""

    group_by: Text | None = None
    """Groups of examples that stay on one side of a split, such as recordings of one speaker: a column of the .csv, or
    a regular expression whose parentheses find the group's name in a path, such as '_(.+)_'. Default: the column
    group, if there is one."""

    split_seed: Natural | None = None
    """Seed of splits that the data lacks; with it, runs with different seeds can share one test split.
    Default: --seed."""

    max_pictures: Positive | None = None
    """Maximum number of examples to use, to try things on a part of the data: drawn at random, by the seed of the
    split, with the same shares of classes and of the data's own splits. Default: all."""

    resize: Resize = "crop"
    """Way to make a picture square: 'crop' keeps the middle, 'pad' adds black bars, 'stretch' changes proportions.
    Use one of the last two if something important may lie at the border of a long picture."""

    image_size: Annotated[int, Ge(1), Le(4096)] | None = None
    """Height and width of the network's input, pixels. Default: the backbone's own, or less for small pictures."""

    max_tokens: Annotated[int, Ge(8), Le(8192)] | None = None
    """Maximum number of tokens that the network reads, from the beginning of a text; a token is a word or a part of
    one. Default: the backbone's own, 256 for minilm."""

    clip_seconds: Annotated[float, Ge(0.1), Le(30)] | None = None
    """Seconds that the network hears, from the middle of a recording. Default: twice the median length of the
    recordings, in whole seconds."""

    positive: Text | None = None
    """Positive class of two: sensitivity is the share of its examples that is found, and thresholds apply to its
    probability. Default: the class with fewer examples; of equals, the second in alphabetical order."""

    @property
    def chosen_size(self) -> int:
        """Size of inputs, once chosen: pixels, tokens or milliseconds."""
        size = self.image_size if self.max_tokens is None else self.max_tokens
        size = size if self.clip_seconds is None else round(1000 * self.clip_seconds)
        if size is None:
            raise ValueError("the size of inputs is still open: see training.inputs.load_inputs")
        return size


@settings
class ModelConfig(Settings):
    """Settings of the network: backbone, pooling and head."""

    backbone: Text = "efficientnet_lite0"
    """Pretrained network, such as resnet50, mobilenet or efficientnetb0; the README lists all. For texts, the default
    is minilm. Or your own: one of custom.py, or FILE.keras; if none of its layers scales pixels, say how
    it was trained: 'torch:FILE.keras', or caffe, tf (-1 to 1), unit (0 to 1) or raw (0 to 255)."""

    weights: Text = "imagenet"
    """Weights of the backbone: 'imagenet' (or its other pretraining), 'none' (random), a .h5 or .weights.h5
    file without top, or a folder of KerasHub, Hugging Face or timm."""

    pooling: Text | None = None
    """Pooling that turns the backbone's features into one vector: 'avg', 'max', one of custom.py; for tokens also
    'first', 'last', and 'both' (the first and the mean of the patches). Default: first for picture transformers with a
    class token, else avg."""

    head: Text = "dense"
    """Layers between the pooled features and the output: 'dense' (see --head-units), or one of custom.py."""

    head_units: tuple[Positive, ...] = ()
    """Units of each dense layer between the pooled features and the output, such as '256 64'. Default: no such
    layer. For boxes: channels of the feature pyramid, 64 by default."""

    dropout: Fraction = 0.2
    """Fraction of values dropped before each dense layer of the head while training."""

    trainable_layers: TrainableLayers | None = None
    """Last layers of the backbone to fine-tune after the head: a number, 'all', or 0. Default: its last blocks."""


@settings
class TrainingConfig(Settings):
    """Settings of the training: phases, optimizer, augmentation and loss."""

    effort: Effort = "standard"
    """Effort of a run: 'quick' only solves the head; 'standard' also fine-tunes the last layers, and then the whole
    network if less than 97 % are right on val (not for texts); 'best' does that at any accuracy, for many epochs, and
    also looks at mirror images. With fewer than 1,000 training examples, none of them fine-tunes by itself."""

    max_minutes: Annotated[float, Gt(0), Lt(LARGEST)] | None = None
    """Minutes that the command may take: a run fine-tunes for as many epochs (the last may be partial) as fit, and a
    search starts no more trials after that time. Default: no limit."""

    head_solver: HeadSolver | None = None
    """Way to train the head on the frozen backbone: 'lbfgs' solves a regularised regression on the features, in
    seconds and without a learning rate; 'optimizer' trains it for --head-epochs. Default: 'optimizer' with
    --head-units, --head-epochs, --learning-rate or --augment fresh, else 'lbfgs'."""

    head_epochs: Natural | None = None
    """Maximum epochs of training the head on the frozen backbone. Default: as many as 4,500 steps make, between 8 and
    60; 0 if the head is solved."""

    fine_tune_epochs: Epochs | None = None
    """Maximum epochs of fine-tuning the unfrozen layers after that. Default: 2, for texts 3; 0 with --effort quick, or
    with fewer than 1,000 training examples unless --trainable-layers is given; 30 from random weights."""

    deeper_layers: TrainableLayers | None = None
    """Last layers of the backbone to fine-tune in a further phase: a number, 'all', or 0. Default: 'all'; 0 with
    --trainable-layers or --fine-tune-epochs, or if nothing is fine-tuned. See --effort."""

    deeper_epochs: Epochs | None = None
    """Maximum epochs of that further phase. Default: 4; 20 with --effort best, but not for texts."""

    learning_rate: Rate | Literal["find"] | None = None
    """Peak learning rate of the head phase; 'find' searches it by a short training with rising rates. Default: by the
    spread of the features."""

    fine_tune_learning_rate: Rate | None = None
    """Peak learning rate of fine-tuning. Default: 1e-4 for batches of 32 examples, less for a short phase."""

    layer_decay: Annotated[float, Gt(0), Le(1)] | None = None
    """Factor by which learning rate and weight decay of fine-tuning fall from each block to the one before it, such as
    0.8. Default: 1."""

    schedule: Literal["cosine", "constant"] = "cosine"
    """Learning rate of each phase after half an epoch of warm-up: it falls to 0 along a cosine, or stays constant."""

    batch_size: Positive | None = None
    """Examples per training step, on all devices together. Default: 32, for boxes 8."""

    optimizer: Optimizer = "adam"
    """Optimizer of all phases; sgd has Nesterov momentum 0.9."""

    weight_decay: Annotated[float, Ge(0), Le(10)] | None = None
    """Decoupled weight decay: each step multiplies a weight by 1 - learning rate x this; biases, and scales and shifts
    of normalisation layers, are exempt. Default: 0.004 for adamw, else none."""

    augment: Augment = "views"
    """Random changes of training examples, see --vary: 'views' makes a few versions of each, computes
    the frozen layers once for them and uses another version in each epoch; 'fresh' makes new versions in every
    epoch, so the whole network must run; 'none' makes none. See also --fine-tune-augment."""

    vary: Text = "mild"
    """Random changes of training examples: 'mild' (crops, flips, brightness, contrast); 'flip' alone; 'vertical' or
    'rotate', which also turn them, for pictures without an upright, as under a microscope; 'medical' (no mirroring); or
    'randaugment', two strong ones of ten. For recordings: 'mild' (start, noise, loudness) or 'specaugment'."""

    fine_tune_augment: Augment | None = None
    """Augmentation of the fine-tuning phase: 'views', 'fresh' or 'none' (see --augment of train.py). Default: that of
    the head, but 'fresh' in place of 'views' if less than a quarter of the computation is in frozen layers. 'fresh'
    runs the whole network in every step, and uses none of --cache-gb."""

    views: Positive | None = None
    """Versions of each training example, the unchanged one included; one means no augmentation. Default: 2, for
    boxes 4; if --vary is 'mild', 1 for recordings and for a run that only solves the head."""

    loss: Text = "cross_entropy"
    """Loss that training minimises: 'cross_entropy', or one of custom.py."""

    class_weights: bool = False
    """Weight examples so that every class counts equally, however rare: in training, and on val for early stopping, the
    choice of the best weights and calibration. Accuracies and metrics.json count every example once."""

    patience: Positive = 10
    """Epochs without a lower validation loss after which a phase stops and keeps its best weights."""

    seed: Natural = 0
    """Seed of everything random. The same seed gives the same result."""

    precision: Literal["auto", "float32", "mixed_bfloat16", "mixed_float16"] = "float32"
    """Number format of computation in training; saved models and measurements are float32. 'auto' takes the fastest on
    this machine: bfloat16 on CPUs and GPUs that support it, float16 on older GPUs. On CPUs, networks of depthwise
    convolutions are slower in bfloat16, and so learn in float32."""

    runtime: Literal["auto", "tensorflow", "openvino"] = "auto"
    """Library that computes the frozen layers for the training examples. 'auto' takes OpenVINO, if it is installed
    (requirements-fast.txt), for long computations on a CPU. TensorFlow always computes val and test."""


@settings
class TrainConfig(Settings):
    """Train a model: a pretrained backbone without its top, and a new head on it."""

    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    training: TrainingConfig = TrainingConfig()
    run: RunConfig = RunConfig()
    decision: DecisionConfig = DecisionConfig()

    def __post_init__(self):
        if self.data.val_fraction + self.data.test_fraction >= 1:
            raise UsageError(
                f"--val-fraction and --test-fraction must leave something to train on; "
                f"received {self.data.val_fraction} and {self.data.test_fraction}."
            )
        epochs, weights = self.training.head_epochs, self.model.weights
        if self.training.learning_rate == "find" and (epochs == 0 or (epochs is None and weights == "none")):
            why = "--head-epochs is 0" if epochs == 0 else "--weights none leaves it out"
            raise UsageError(
                f"--learning-rate find needs a head phase, and {why}. Raise --head-epochs, or leave 'find' out."
            )
        if self.run.has_workers and self.run.strategy == "multiworker":
            raise UsageError(
                "--strategy multiworker has workers of its own, named by TF_CONFIG; leave out --workers and --cluster."
            )

    @property
    def seed_of_split(self) -> int:
        """Seed of the split; `split_seed` may be None, as in a `config.json` older than that setting."""
        return self.training.seed if self.data.split_seed is None else self.data.split_seed

    def to_json(self) -> dict[str, Any]:
        """Returns the settings that decide the result, by name, as in `config.json`."""
        places = {name for _, name, _ in RunConfig.fields()}
        return {name: value for name, value in self.flat().items() if name not in places}

    @classmethod
    def from_file(cls, path: Path, flag: str = "--config") -> Self:
        """Reads a `config.json`.

        Args:
            path: path of the file.
            flag: flag that named it.

        Raises:
            UsageError: the file is missing, is not a JSON object, or has an unknown setting or a wrong value.
        """
        try:
            values = read_json(Path(path))
        except OSError as error:
            raise UsageError(f"{flag} must be a run's config.json; '{path}': {error.strerror}.") from None
        except ValueError as error:
            raise UsageError(f"{flag} must be a run's config.json; '{path}' is no JSON: {error}.") from None
        if not isinstance(values, dict):
            raise UsageError(f"{flag} must hold a JSON object of settings; '{path}' holds something else.")
        known = cls().to_json()
        for name in values:
            if name not in known:
                raise unknown_choice(f"A setting of '{path}'", reprlib.repr(name)[1:-1], known)
        try:
            return cls.from_json(values)
        except UsageError as error:
            raise UsageError(f"'{path}' cannot be used: {error}") from None
