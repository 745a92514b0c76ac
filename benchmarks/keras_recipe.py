"""The peers: recipes of transfer learning in plain Keras, on a folder of train/, val/ and test/CLASS pictures.

- `guide`: https://keras.io/guides/transfer_learning: the backbone without its top, frozen, under dropout and one dense
  layer, with random flips and rotations; then all of it unfrozen at a learning rate of 1e-5.
- `tuned`: the same, with what a careful person adds: label smoothing, warm-up and a cosine, batches of 32, and eight
  epochs of the whole network at 5e-4.
- `discriminative`: the schedule of fastai's `fine_tune`: an epoch of the head, then five of all layers, with rates that
  grow from the first layer to the last by a factor of 100, in one cycle.
- `regression`: a logistic regression on the features of the frozen backbone, its penalty chosen on val.

Pictures are decoded once and kept in memory, and augmented after that, so that every epoch sees others. The weights of
the epoch of the lowest validation loss, of either phase, are kept and measured once on test. Prints one line of JSON.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras
    import numpy as np
    import tensorflow as tf

BATCH_SIZE = {"guide": 64, "tuned": 32, "discriminative": 64, "regression": 64}
PENALTIES = [10.0**exponent for exponent in range(-5, 2)]


def main() -> None:
    """Trains by the recipe and prints what came out."""
    parser = peer_parser(__doc__)
    parser.add_argument("--recipe", choices=BATCH_SIZE, default="guide")
    flags = parser.parse_args()

    import keras
    import tensorflow as tf

    started = time.perf_counter()
    keras.utils.set_random_seed(flags.seed)
    batch_size = BATCH_SIZE[flags.recipe]
    sets = {split: load_pictures(flags, split, batch_size) for split in ("train", "val", "test")}
    num_classes = len(sets["train"].class_names)
    train = sets["train"].unbatch().cache().shuffle(10_000, seed=flags.seed).batch(batch_size)
    train = train.map(make_augment(), tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    val = sets["val"].cache().prefetch(tf.data.AUTOTUNE)

    base, pictures, features = pooled_network(flags)
    if flags.recipe == "regression":
        accuracy = regress(keras.Model(pictures, features), sets)
    else:
        model = keras.Model(pictures, keras.layers.Dense(num_classes)(keras.layers.Dropout(0.2)(features)))
        steps = -(-len(sets["train"].file_paths) // batch_size)
        fine_tune(flags.recipe, model, base, train, val, steps)
        accuracy = model.evaluate(sets["test"], verbose=0)[1]
    print(json.dumps({"accuracy": accuracy, "seconds": time.perf_counter() - started}))


def peer_parser(description: str | None) -> argparse.ArgumentParser:
    """Makes a parser with the flags that `benchmarks.processes.peer_command` gives."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="MobileNet", help="name of the builder in keras.applications")
    parser.add_argument("--module", default="mobilenet", help="its module, which has preprocess_input")
    parser.add_argument("--weights", default="imagenet", help="'imagenet', 'none' or a file")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    return parser


def load_pictures(flags: argparse.Namespace, split: str, batch_size: int) -> "tf.data.Dataset":
    """Finds the pictures of a split; they are decoded whenever the data set is gone through, in order."""
    import keras

    size = (flags.image_size, flags.image_size)
    return keras.utils.image_dataset_from_directory(
        flags.folder / split, image_size=size, batch_size=batch_size, shuffle=False, verbose=False
    )


def labels_of(pictures: "tf.data.Dataset") -> "np.ndarray":
    """Returns the labels of a split in the order of its files, int32 (num_pictures,), without decoding them again."""
    import numpy as np

    names = pictures.class_names
    return np.array([names.index(Path(path).parent.name) for path in pictures.file_paths], np.int32)


def make_augment() -> Callable[..., tuple[Any, Any]]:
    """Makes a function that mirrors and turns a batch of pictures at random."""
    import keras

    layers = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

    def augment(pictures, labels):
        for layer in layers:
            pictures = layer(pictures, training=True)
        return pictures, labels

    return augment


def make_backbone(flags: argparse.Namespace) -> "keras.Model":
    """Builds the pretrained network without its top, all of it frozen."""
    import keras

    weights = None if flags.weights == "none" else flags.weights
    base = getattr(keras.applications, flags.backbone)(
        include_top=False, weights=weights, input_shape=(flags.image_size, flags.image_size, 3)
    )
    base.trainable = False
    return base


def preprocess(pictures: "keras.KerasTensor", flags: argparse.Namespace) -> "keras.KerasTensor":
    """Scales pixels as the network wants them."""
    import keras

    return getattr(keras.applications, flags.module).preprocess_input(pictures)


def pooled_network(flags: argparse.Namespace) -> "tuple[keras.Model, keras.KerasTensor, keras.KerasTensor]":
    """Builds the frozen network in inference mode; returns it, its pictures and its pooled features."""
    import keras

    base = make_backbone(flags)
    pictures = keras.Input(base.input_shape[1:])
    features = base(preprocess(pictures, flags), training=False)
    return base, pictures, keras.layers.GlobalAveragePooling2D()(features)


def fine_tune(recipe: str, model, base, train, val, steps: int) -> None:
    """Trains the head, then all layers, and keeps the best weights of both."""
    import keras

    if recipe == "guide":
        phases = [(10, keras.optimizers.Adam(), 0.0), (5, keras.optimizers.Adam(1e-5), 0.0)]
    elif recipe == "tuned":
        phases = [(8, _cosine(keras.optimizers.Adam, 1e-3, 8 * steps), 0.1)]
        phases += [(8, _cosine(keras.optimizers.Adam, 5e-4, 8 * steps), 0.1)]
    else:
        phases = [(1, _cosine(keras.optimizers.AdamW, 2e-3, steps), 0.0)]
        phases += [(5, _cosine(keras.optimizers.AdamW, 1e-3, 5 * steps), 0.0)]
    best = float("inf")
    for number, (epochs, optimizer, label_smoothing) in enumerate(phases):
        base.trainable = number > 0
        if recipe == "discriminative" and base.trainable:
            _spread_rates(optimizer, model.trainable_variables)
        before = model.get_weights()
        loss = fit(model, train, val, optimizer, epochs, label_smoothing)
        if loss > best:
            model.set_weights(before)
        best = min(best, loss)


def regress(encoder, sets) -> float:
    """Returns the accuracy on test of the logistic regression that is best on val."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    features = {split: encoder.predict(pictures, verbose=0) for split, pictures in sets.items()}
    labels = {split: labels_of(pictures) for split, pictures in sets.items()}
    fits = [
        make_pipeline(StandardScaler(), LogisticRegression(C=penalty, max_iter=1_000)).fit(
            features["train"], labels["train"]
        )
        for penalty in PENALTIES
    ]
    best = min(fits, key=lambda each: log_loss(labels["val"], each.predict_proba(features["val"])))
    return float(best.score(features["test"], labels["test"]))


def _cosine(kind, rate: float, steps: int):
    """An optimizer whose rate rises for a tenth of the steps and falls along a cosine."""
    import keras

    warm_up = max(1, steps // 10)
    schedule = keras.optimizers.schedules.CosineDecay(
        0.0, max(1, steps - warm_up), warmup_target=rate, warmup_steps=warm_up
    )
    return kind(schedule)


def _spread_rates(optimizer, variables) -> None:
    """Scales the rates of an optimizer from a hundredth for the first variable to 1 for the last."""
    factors = [100.0 ** (number / max(len(variables) - 1, 1) - 1) for number in range(len(variables))]
    update_step = optimizer.update_step
    optimizer.update_step = lambda gradient, variable, rate: update_step(
        gradient, variable, rate * factors[optimizer._get_variable_index(variable)]
    )


def fit(model, train, val, optimizer, epochs: int, label_smoothing: float = 0.0) -> float:
    """Compiles, trains all epochs and keeps the weights of the best, with a line for every epoch on standard error.

    Returns:
        The lowest validation loss, whose weights the model has.
    """
    import keras

    plain = keras.losses.SparseCategoricalCrossentropy(from_logits=True)

    def loss(labels, logits):
        smooth = -keras.ops.mean(keras.ops.log_softmax(logits), axis=-1)
        return (1 - label_smoothing) * plain(labels, logits) + label_smoothing * keras.ops.mean(smooth)

    model.compile(optimizer, loss if label_smoothing else plain, metrics=["accuracy"])
    show = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch + 1, logs, file=sys.stderr))
    keep = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)
    history = model.fit(train, epochs=epochs, validation_data=val, verbose=0, callbacks=[show, keep]).history
    return min(history["val_loss"])


if __name__ == "__main__":
    main()
