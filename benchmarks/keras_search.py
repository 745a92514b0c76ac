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
from typing import NamedTuple

from benchmarks.keras_recipe import (
    labels_of,
    load_pictures,
    make_augment,
    make_backbone,
    peer_parser,
    pooled_network,
    preprocess,
)

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


class Peer(NamedTuple):
    """What the trials of a peer share."""

    features_of: Callable[[int], tuple[keras.KerasTensor, keras.KerasTensor]]
    """Builds the network up to the pooled features for a number of trainable layers; returns its input and those."""
    train: Callable[..., keras.callbacks.History]
    """Compiles and fits the network of a trial: takes hyperparameters, model, stage and settings of `fit`."""
    prepare: float
    """Seconds of decoding."""
    features: float
    """Seconds of the frozen layers."""


class Network(keras_tuner.HyperModel):
    """The network that both peers search over."""

    def __init__(self, flags: argparse.Namespace, peer: Peer, depths: Sequence[int], num_classes: int):
        super().__init__()
        self.flags, self.peer, self.depths, self.num_classes = flags, peer, list(depths), num_classes

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Declares every hyperparameter and builds the network of a trial, which `fit` compiles for each stage."""
        hp.Float("learning_rate", 1e-4, 1e-1, sampling="log")
        hp.Float("fine_tune_learning_rate", 1e-5, 1e-3, sampling="log")
        hp.Choice("optimizer", list(OPTIMIZERS))
        hp.Choice("batch_size", [16, 32, 64])
        dropout = hp.Float("dropout", 0.0, 0.5)
        inputs, features = self.peer.features_of(hp.Choice("trainable_layers", self.depths))
        features = keras.layers.Dropout(dropout)(features)
        return keras.Model(inputs, keras.layers.Dense(self.num_classes)(features))

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **settings) -> dict[str, float]:
        """Trains in one stage or two and returns the best accuracy, which is what KerasTuner takes from a history."""
        accuracies = []
        for stage in self.stages(hp):
            accuracies += self.peer.train(hp, model, stage, **settings).history["val_accuracy"]
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


def main() -> None:
    """Searches and prints what came out."""
    flags = _parse()
    started = time.perf_counter()
    keras.utils.set_random_seed(flags.seed)
    sets = {split: load_pictures(flags, split, DECODED_AT_ONCE) for split in ("train", "val")}
    peer = PEERS[flags.peer](flags, sets)
    accuracies, search = [], 0.0
    for number, depths in enumerate([[depth] for depth in flags.depths] if flags.even else [flags.depths]):
        network = Network(flags, peer, depths, len(sets["train"].class_names))
        trials = len(range(number, flags.trials, len(flags.depths))) if flags.even else flags.trials
        found, took = run_search(network, trials, flags.seed + number)
        accuracies += found
        search += took
    total = time.perf_counter() - started
    seconds = {"total": total, "prepare": peer.prepare, "features": peer.features, "search": search}
    result = {"val_accuracy": max(accuracies), "seconds": seconds, "trials": len(accuracies)}
    print(json.dumps({**result, "val_accuracies": accuracies}))


def whole_network(flags: argparse.Namespace, sets: dict[str, tf.data.Dataset]) -> Peer:
    """Every step runs the whole network, on pictures augmented anew."""
    started = time.perf_counter()
    # Without knowing how many there are, Keras would try a step too many in each epoch.
    count = tf.data.experimental.assert_cardinality(len(sets["train"].file_paths))
    train_ds = sets["train"].unbatch().cache().apply(count)
    val_ds = sets["val"].cache().prefetch(tf.data.AUTOTUNE)
    for dataset in (train_ds, val_ds):
        for _ in dataset:
            pass
    augment = make_augment()

    def features_of(depth):
        return pooled_network(flags)[1:]

    def train(hp, model, stage, **settings):
        base = next(layer for layer in model.layers if isinstance(layer, keras.Model))
        learn_last(base.layers, stage.trainable_layers)
        compile_model(model, hp, stage)
        batches = train_ds.shuffle(SHUFFLED, seed=flags.seed).batch(hp.get("batch_size"))
        batches = batches.map(augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
        return model.fit(batches, validation_data=val_ds, epochs=stage.epochs, **settings)

    return Peer(features_of, train, time.perf_counter() - started, 0.0)


def cached_features(flags: argparse.Namespace, sets: dict[str, tf.data.Dataset]) -> Peer:
    """Every trial trains the layers behind a cut, on what crosses it.

    Decoding and the frozen layers run side by side, so all of it counts as features.
    """
    started = time.perf_counter()
    base = make_backbone(flags)
    cuts = {depth: cut(base, depth) for depth in flags.depths if depth}
    wanted = {depth: crossing for depth, (crossing, _) in cuts.items()}
    if 0 in flags.depths or flags.fine_tune_epochs is not None:
        wanted[0] = keras.layers.GlobalAveragePooling2D()(base.output)
    pictures = keras.Input(base.input_shape[1:])
    frozen = keras.Model(pictures, keras.Model(base.input, wanted)(preprocess(pictures, flags)))
    arrays = {split: frozen.predict(dataset, verbose=0) for split, dataset in sets.items()}
    labels = {split: labels_of(dataset) for split, dataset in sets.items()}

    def features_of(depth):
        if depth == 0:
            pooled = keras.Input(arrays["train"][0].shape[1:])
            return pooled, pooled
        tail = keras.models.clone_model(cuts[depth][1])
        tail.set_weights(cuts[depth][1].get_weights())
        learn_last(tail.layers, depth)
        return tail.input, keras.layers.GlobalAveragePooling2D()(tail.output)

    def train(hp, model, stage, **settings):
        if stage.trainable_layers < hp.get("trainable_layers"):
            dropout, dense = model.layers[-2:]
            pooled = keras.Input(dense.input.shape[1:])
            model = keras.Model(pooled, dense(dropout(pooled)))
        compile_model(model, hp, stage, steps_per_execution=STEPS_PER_EXECUTION)
        learnt, val = ((arrays[split][stage.trainable_layers], labels[split]) for split in ("train", "val"))
        settings |= {"batch_size": hp.get("batch_size"), "epochs": stage.epochs}
        return model.fit(*learnt, validation_data=val, validation_batch_size=JUDGED_AT_ONCE, **settings)

    return Peer(features_of, train, 0.0, time.perf_counter() - started)


PEERS = {"whole": whole_network, "cached": cached_features}


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


def _parse() -> argparse.Namespace:
    parser = peer_parser(__doc__)
    parser.add_argument("--peer", choices=PEERS, required=True)
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
    return parser.parse_args()


if __name__ == "__main__":
    main()
