"""The peers: KerasTuner's random search, on a folder of train/CLASS and val/CLASS pictures. Prints one line of JSON.

`--peer whole` is KerasTuner as https://keras.io/keras_tuner/getting_started shows it, around the network, pipeline and
augmentation of `keras_recipe.py`: every step of every trial runs the whole network. Pictures are decoded once and kept
in memory. `--peer cached` is what a good user makes of it by hand: the pictures run once through the frozen layers, and
trials train on what came out, kept in memory: pooled features where only the head learns, else what enters the last
layers, of which every trial trains a copy. That one has no augmentation.

BatchNorm never learns: `training=False`, as in the recipe, and not trainable, as in Keras' guide to EfficientNet.
"""

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

try:
    import keras
    import keras_tuner
    import tensorboard.plugins.hparams.api  # noqa: F401  KerasTuner needs it in every trial, and does not depend on it
    import tensorflow as tf
except ImportError as error:
    print(f"The peers need tensorflow, keras-tuner and tensorboard; {error}. Install what is missing.", file=sys.stderr)
    sys.exit(2)

DECODED_AT_ONCE = 64
JUDGED_AT_ONCE = 256
STEPS_PER_EXECUTION = 16
"""Steps per call of the cached peer: Keras' work around each of its short steps would take longer than the step."""
SHUFFLED = 10_000
OPTIMIZERS: dict[str, Callable[[float], keras.optimizers.Optimizer]] = {
    "adam": keras.optimizers.Adam,
    # No decay and Nesterov momentum, as `tune.py` has them in the comparison.
    "adamw": lambda learning_rate: keras.optimizers.AdamW(learning_rate, weight_decay=0.0),
    "sgd": lambda learning_rate: keras.optimizers.SGD(learning_rate, momentum=0.9, nesterov=True),
}


class Stage(NamedTuple):
    """One `fit` of a trial."""

    trainable_layers: int
    """Last layers of the backbone that learn; 0 for the head alone."""
    learning_rate: float
    epochs: int


class Pictures(NamedTuple):
    """A split."""

    dataset: tf.data.Dataset
    """Batches of float32 (num_images, height, width, 3) in [0, 255] and labels, in the order of the files."""
    labels: np.ndarray
    """int32 (num_images,)."""
    num_classes: int


class Network(keras_tuner.HyperModel):
    """The network that both peers search over."""

    def __init__(self, flags: argparse.Namespace, depths: Sequence[int], num_classes: int):
        super().__init__()
        self.flags = flags
        self.depths = list(depths)
        self.num_classes = num_classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Declares every hyperparameter and builds the network of a trial, which `fit` compiles for each stage."""
        hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        hp.Float("fine_tune_learning_rate", 1e-5, 1e-3, sampling="log")
        hp.Choice("optimizer", list(OPTIMIZERS))
        hp.Choice("batch_size", [16, 32, 64])
        dropout = hp.Float("dropout", 0.0, 0.5)
        inputs, features = self.features_of(hp.Choice("trainable_layers", self.depths))
        features = keras.layers.Dropout(dropout)(features)
        return keras.Model(inputs, keras.layers.Dense(self.num_classes)(features))

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **settings) -> dict[str, float]:
        """Trains in one stage or two and returns the best accuracy, which is what KerasTuner takes from a history."""
        accuracies = []
        for stage in self.stages(hp):
            accuracies += self.train(hp, model, stage, **settings).history["val_accuracy"]
        return {"val_accuracy": max(accuracies)}

    def stages(self, hp: keras_tuner.HyperParameters) -> list[Stage]:
        """All learns from the start, or the head first if there are epochs for that."""
        depth, flags = hp.get("trainable_layers"), self.flags
        head = Stage(0, hp.get("learning_rate"), flags.epochs)
        if depth == 0:
            return [head]
        if flags.fine_tune_epochs is None:
            return [Stage(depth, hp.get("fine_tune_learning_rate"), flags.epochs)]
        return [head, Stage(depth, hp.get("fine_tune_learning_rate"), flags.fine_tune_epochs)]

    def features_of(self, depth: int) -> tuple[keras.KerasTensor, keras.KerasTensor]:
        """Builds the network up to the pooled features and returns its input and those."""
        raise NotImplementedError

    def train(self, hp, model: keras.Model, stage: Stage, **settings) -> keras.callbacks.History:
        """Compiles and fits the network of a trial."""
        raise NotImplementedError


class WholeNetwork(Network):
    """Every step runs the whole network, on pictures augmented anew."""

    def __init__(self, flags, depths, num_classes, train: tf.data.Dataset, val: tf.data.Dataset):
        super().__init__(flags, depths, num_classes)
        self.train_ds, self.val_ds = train, val
        self.augmentation = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

    def features_of(self, depth):
        base = make_backbone(self.flags)
        pictures = keras.Input(base.input_shape[1:])
        features = base(_preprocess(pictures, self.flags), training=False)
        return pictures, keras.layers.GlobalAveragePooling2D()(features)

    def train(self, hp, model, stage, **settings):
        base = next(layer for layer in model.layers if isinstance(layer, keras.Model))
        learn_last(base.layers, stage.trainable_layers)
        compile_model(model, hp, stage)
        train = self.train_ds.shuffle(SHUFFLED, seed=self.flags.seed).batch(hp.get("batch_size"))
        train = train.map(self.augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        return model.fit(train, validation_data=self.val_ds, epochs=stage.epochs, **settings)

    def augment(self, pictures, labels):
        """Turns and mirrors a batch."""
        for layer in self.augmentation:
            pictures = layer(pictures, training=True)
        return pictures, labels


class CachedFeatures(Network):
    """Every trial trains the layers behind a cut, on what crosses it."""

    def __init__(
        self, flags, depths, num_classes, tails: dict[int, keras.Model], arrays: dict[str, dict[int | str, Any]]
    ):
        super().__init__(flags, depths, num_classes)
        self.tails, self.arrays = tails, arrays

    def features_of(self, depth):
        if depth == 0:
            pooled = keras.Input(self.arrays["train"][0].shape[1:])
            return pooled, pooled
        tail = keras.models.clone_model(self.tails[depth])
        tail.set_weights(self.tails[depth].get_weights())
        learn_last(tail.layers, depth)
        return tail.input, keras.layers.GlobalAveragePooling2D()(tail.output)

    def train(self, hp, model, stage, **settings):
        if stage.trainable_layers < hp.get("trainable_layers"):
            dropout, dense = model.layers[-2:]
            pooled = keras.Input(dense.input.shape[1:])
            model = keras.Model(pooled, dense(dropout(pooled)))
        compile_model(model, hp, stage, steps_per_execution=STEPS_PER_EXECUTION)
        (features, labels), val = (
            (self.arrays[split][stage.trainable_layers], self.arrays[split]["labels"]) for split in ("train", "val")
        )
        settings |= {"batch_size": hp.get("batch_size"), "epochs": stage.epochs}
        return model.fit(features, labels, validation_data=val, validation_batch_size=JUDGED_AT_ONCE, **settings)


def main() -> None:
    """Searches and prints what came out."""
    flags = _parse()
    started = time.perf_counter()
    keras.utils.set_random_seed(flags.seed)
    sets = {split: load_pictures(flags.folder / split, flags.image_size) for split in ("train", "val")}
    if flags.peer == "whole":
        network, prepare, features = _whole_network(flags, sets)
    else:
        network, prepare, features = _cached_features(flags, sets)
    accuracies, search = [], 0.0
    for number, depths in enumerate([[depth] for depth in flags.depths] if flags.even else [flags.depths]):
        network.depths = depths
        trials = len(range(number, flags.trials, len(flags.depths))) if flags.even else flags.trials
        found, took = run_search(network, trials, flags.seed + number)
        accuracies += found
        search += took
    seconds = {"total": time.perf_counter() - started, "prepare": prepare, "features": features, "search": search}
    result = {"val_accuracy": max(accuracies), "seconds": seconds, "trials": len(accuracies)}
    print(json.dumps({**result, "val_accuracies": accuracies}))


def run_search(network: Network, trials: int, seed: int) -> tuple[list[float], float]:
    """Runs KerasTuner.

    Returns:
        The validation accuracy of every trial, and the seconds of all trials, without building the first network to
        see which hyperparameters there are.
    """
    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            network,
            objective="val_accuracy",
            max_trials=trials,
            seed=seed + 1,  # It takes 0 for no seed.
            directory=folder,
        )
        started = time.perf_counter()
        tuner.search(verbose=0)
        seconds = time.perf_counter() - started
        done = [tuner.oracle.trials[trial] for trial in tuner.oracle.start_order]
    failed = [trial for trial in done if trial.status != "COMPLETED"]
    if failed:
        sys.exit(f"{len(failed)} of {len(done)} trials failed; the first said:\n{failed[0].message}")
    return [trial.score for trial in done], seconds


def make_backbone(flags: argparse.Namespace) -> keras.Model:
    """Builds the pretrained network without its top, all of it frozen."""
    base = getattr(keras.applications, flags.backbone)(
        include_top=False,
        weights=None if flags.weights == "none" else flags.weights,
        input_shape=(flags.image_size, flags.image_size, 3),
    )
    base.trainable = False
    return base


def learn_last(layers: Sequence[keras.Layer], depth: int) -> None:
    """Lets the last layers learn, BatchNorm excepted, and freezes the others."""
    for index, layer in enumerate(layers):
        is_batch_norm = isinstance(layer, keras.layers.BatchNormalization)
        layer.trainable = index >= len(layers) - depth and not is_batch_norm


def compile_model(model: keras.Model, hp: keras_tuner.HyperParameters, stage: Stage, **settings) -> None:
    """Compiles with a new optimizer at the stage's learning rate."""
    optimizer = OPTIMIZERS[hp.get("optimizer")](stage.learning_rate)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **settings)


def cut(base: keras.Model, depth: int) -> tuple[keras.KerasTensor, keras.Model]:
    """Cuts at the last place before the last layers that a single tensor crosses.

    Returns:
        That tensor, and what follows it as a model of its own.
    """
    for first in range(len(base.layers) - depth, 0, -1):
        crossing = base.layers[first - 1].output
        try:
            return crossing, keras.Model(crossing, base.output)
        except ValueError:
            continue  # A shortcut leads past this place.
    sys.exit(f"No place before the last {depth} layers of {base.name} is crossed by a single tensor.")


def load_pictures(folder: Path, image_size: int) -> Pictures:
    """Finds the pictures of a split; they are decoded whenever the data set is gone through."""
    dataset = keras.utils.image_dataset_from_directory(
        folder, image_size=(image_size, image_size), batch_size=DECODED_AT_ONCE, shuffle=False, verbose=False
    )
    names = dataset.class_names
    labels = np.array([names.index(Path(path).parent.name) for path in dataset.file_paths], np.int32)
    return Pictures(dataset, labels, len(names))


def _whole_network(flags: argparse.Namespace, sets: dict[str, Pictures]) -> tuple[Network, float, float]:
    started = time.perf_counter()
    # Without knowing how many there are, Keras would try a step too many in each epoch.
    count = tf.data.experimental.assert_cardinality(len(sets["train"].labels))
    train = sets["train"].dataset.unbatch().cache().apply(count)
    val = sets["val"].dataset.cache().prefetch(tf.data.AUTOTUNE)
    for dataset in (train, val):
        for _ in dataset:
            pass
    network = WholeNetwork(flags, flags.depths, sets["train"].num_classes, train, val)
    return network, time.perf_counter() - started, 0.0


def _cached_features(flags: argparse.Namespace, sets: dict[str, Pictures]) -> tuple[Network, float, float]:
    """Decoding and the frozen layers run side by side, so all of it counts as features."""
    started = time.perf_counter()
    base = make_backbone(flags)
    cuts = {depth: cut(base, depth) for depth in flags.depths if depth}
    wanted = {depth: crossing for depth, (crossing, _) in cuts.items()}
    if 0 in flags.depths or flags.fine_tune_epochs is not None:
        wanted[0] = keras.layers.GlobalAveragePooling2D()(base.output)
    pictures = keras.Input(base.input_shape[1:])
    frozen = keras.Model(pictures, keras.Model(base.input, wanted)(_preprocess(pictures, flags)))
    arrays = {
        split: {**frozen.predict(found.dataset, verbose=0), "labels": found.labels} for split, found in sets.items()
    }
    tails = {depth: tail for depth, (_, tail) in cuts.items()}
    network = CachedFeatures(flags, flags.depths, sets["train"].num_classes, tails, arrays)
    return network, 0.0, time.perf_counter() - started


def _preprocess(pictures: keras.KerasTensor, flags: argparse.Namespace) -> keras.KerasTensor:
    return getattr(keras.applications, flags.module).preprocess_input(pictures)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--peer", choices=("whole", "cached"), required=True)
    parser.add_argument("--backbone", default="MobileNet", help="name of the builder in keras.applications")
    parser.add_argument("--module", default="mobilenet", help="its module, which has preprocess_input")
    parser.add_argument("--weights", default="imagenet", help="'imagenet', 'none' or a file")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--trials", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=10, help="of a trial")
    parser.add_argument(
        "--fine-tune-epochs",
        type=int,
        help="where layers learn, the head alone learns for --epochs first, and then all of them for so many. "
        "Default: all learn for --epochs from the start",
    )
    parser.add_argument("--depths", type=int, nargs="+", default=[0], help="last layers of the backbone that learn")
    parser.add_argument("--even", action="store_true", help="try the depths equally often, not at random")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args()


if __name__ == "__main__":
    main()
