"""The peer: the recipe of Keras' guide to transfer learning, on a folder of train/, val/ and test/CLASS pictures.

https://keras.io/guides/transfer_learning: the backbone without its top, frozen, under dropout and one dense layer, with
random flips and rotations; then all of it unfrozen at a learning rate of 1e-5. Pictures are decoded once and kept in
memory, and augmented after that, so that every epoch sees others. The weights of the epoch of the lowest validation
loss, of either phase, are kept and measured once on test. Prints one line of JSON.
"""

import argparse
import json
import sys
import time
from pathlib import Path

FROZEN_EPOCHS = 10
UNFROZEN_EPOCHS = 5
BATCH_SIZE = 64


def main() -> None:
    """Trains by the recipe and prints what came out."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--backbone", default="MobileNet", help="name of the builder in keras.applications")
    parser.add_argument("--module", default="mobilenet", help="its module, which has preprocess_input")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()

    import keras
    import tensorflow as tf

    started = time.perf_counter()
    keras.utils.set_random_seed(flags.seed)
    sets = {split: _load(flags.folder / split, flags) for split in ("train", "val", "test")}
    num_classes = len(sets["train"].class_names)
    augmentation = [keras.layers.RandomFlip("horizontal"), keras.layers.RandomRotation(0.1)]

    def augment(pictures, labels):
        for layer in augmentation:
            pictures = layer(pictures, training=True)
        return pictures, labels

    train = sets["train"].unbatch().cache().shuffle(10_000, seed=flags.seed).batch(BATCH_SIZE)
    train = train.map(augment, tf.data.AUTOTUNE).prefetch(tf.data.AUTOTUNE)
    val = sets["val"].cache().prefetch(tf.data.AUTOTUNE)

    base = getattr(keras.applications, flags.backbone)(
        include_top=False, weights=flags.weights, input_shape=(flags.image_size, flags.image_size, 3)
    )
    base.trainable = False
    pictures = keras.Input(base.input_shape[1:])
    features = base(getattr(keras.applications, flags.module).preprocess_input(pictures), training=False)
    features = keras.layers.Dropout(0.2)(keras.layers.GlobalAveragePooling2D()(features))
    model = keras.Model(pictures, keras.layers.Dense(num_classes)(features))

    frozen_loss = fit(model, train, val, keras.optimizers.Adam(), FROZEN_EPOCHS)
    frozen_weights = model.get_weights()
    base.trainable = True
    if fit(model, train, val, keras.optimizers.Adam(1e-5), UNFROZEN_EPOCHS) > frozen_loss:
        model.set_weights(frozen_weights)
    accuracy = model.evaluate(sets["test"], verbose=0)[1]
    print(json.dumps({"accuracy": accuracy, "seconds": time.perf_counter() - started}))


def fit(model, train, val, optimizer, epochs: int) -> float:
    """Compiles, trains all epochs and keeps the weights of the best, with a line for every epoch on standard error.

    Returns:
        The lowest validation loss, whose weights the model has.
    """
    import keras

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    show = keras.callbacks.LambdaCallback(on_epoch_end=lambda epoch, logs: print(epoch + 1, logs, file=sys.stderr))
    keep = keras.callbacks.EarlyStopping("val_loss", patience=epochs, restore_best_weights=True)
    history = model.fit(train, epochs=epochs, validation_data=val, verbose=0, callbacks=[show, keep]).history
    return min(history["val_loss"])


def _load(folder: Path, flags: argparse.Namespace):
    import keras

    size = (flags.image_size, flags.image_size)
    return keras.utils.image_dataset_from_directory(
        folder, image_size=size, batch_size=BATCH_SIZE, shuffle=False, verbose=False
    )


if __name__ == "__main__":
    main()
