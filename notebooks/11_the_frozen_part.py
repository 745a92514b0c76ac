# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 11. The frozen part: BatchNorm, cuts, and why it is computed once
#
# Fine-tuning leaves the first layers of a network as they are. This notebook shows, with plain Keras, why BatchNorm
# layers stay frozen, and how Headstart computes the frozen layers only once without changing any result.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 1500  # approximate number of pictures to use; None for all
image_size = 64  # height and width of the network's input, pixels
unfrozen_blocks = 2  # last blocks to train
fine_tune_epochs = 3  # epochs of the BatchNorm experiment
batch_size = 16  # pictures per step of this experiment
seed = 0  # random seed

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import time
import warnings

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import PercentFormatter

from app.config import TrainConfig
from app.terminal import import_tensorflow
from models.backbones import find
from notebooks.beginning import make_work_folder, quietly, some_pictures

import_tensorflow()  # before Keras: hides the start-up messages of TensorFlow
import keras

from features.cuts import find_cuts, part_of
from models.classifier import build_classifier
from models.freezing import set_trainable
from training.cuts import cuts_at
from training.inputs import load_inputs
from training.run import make_deterministic

plt.rcParams["figure.dpi"] = 80
work = make_work_folder()
make_deterministic(seed)

# %%
config = TrainConfig.of(
    data=str(some_pictures(data, pictures, work)),
    outside=True,  # the pictures are not in the folder of the CSV file
    image_size=image_size,
    val_fraction=0.4,
    test_fraction=0.1,
    cache_dir=work / "cache",
    seed=seed,
)
with quietly():
    inputs = load_inputs(config)
classifier = build_classifier(
    inputs.backbone,
    weights="imagenet",
    image_size=image_size,
    task=inputs.data.task,
    num_classes=len(inputs.data.class_names),
    seed=seed,
)
depth = sum(len(block) for block in classifier.blocks[-unfrozen_blocks:])
print(f"{len(classifier.blocks)} blocks; the last {unfrozen_blocks} have {depth} layers")

# %% [markdown]
# ## What BatchNorm does
#
# A BatchNorm layer normalises its input to mean 0 and variance 1. In training it uses the mean and variance of the
# batch, and updates a moving average of both; afterwards it uses the averages. In a pretrained network, these come
# from a million photos. We fine-tune with plain Keras twice: with BatchNorm frozen, as in Headstart, and with
# `trainable = True` on everything, as is often done.

# %%
some = inputs.data
train, val = some.splits["train"][::2], some.splits["val"][::2]
x, y = some.inputs[0][train].astype("float32"), some.targets[train]
x_val, y_val = some.inputs[0][val].astype("float32"), some.targets[val]
task = some.task
model, head, layers = classifier.model, classifier.head, classifier.backbone.layers
norms = [layer for layer in layers if isinstance(layer, keras.layers.BatchNormalization)]


def before_head(pictures: np.ndarray) -> np.ndarray:
    """Returns the input of the head, float32 (n, num_features)."""
    pooled = keras.Model(model.inputs[0], model.get_layer("pooling").output)
    return np.concatenate([pooled(pictures[at : at + 64], training=False) for at in range(0, len(pictures), 64)])


head.compile(keras.optimizers.Adam(3e-3), task.loss, metrics=[task.is_right])
head.fit(before_head(x), y, batch_size=32, epochs=20, verbose=0)  # the same head for both
at_start = head.evaluate(before_head(x_val), y_val, verbose=0, return_dict=True)["is_right"]
start = model.get_weights()

means = [layer.moving_mean.numpy() for layer in norms]
variances = [layer.moving_variance.numpy() for layer in norms]

curves, shifts, ratios = {}, {}, {}
for name in ("BatchNorm frozen", "BatchNorm learns"):
    model.set_weights(start)
    set_trainable(layers, "all")
    for layer in norms:
        layer.trainable = name == "BatchNorm learns"
    model.compile(keras.optimizers.Adam(1e-5), task.loss, metrics=[task.is_right])
    history = model.fit(x, y, batch_size, fine_tune_epochs, verbose=0, validation_data=(x_val, y_val)).history
    curves[name] = [at_start, *history["val_is_right"]]
    shifts[name], ratios[name] = [], []
    for layer, mean, variance in zip(norms, means, variances, strict=True):
        spread = np.sqrt(variance + layer.epsilon)
        shifts[name].append(np.abs((layer.moving_mean - mean) / spread).mean())
        ratios[name].append(np.median(layer.moving_variance + layer.epsilon) / np.median(variance + layer.epsilon))

# %%
figure, axes = plt.subplots(1, 3, figsize=(10, 3.2))
for axis, drawn in zip(axes, (shifts, ratios, curves), strict=True):
    for name, values in drawn.items():
        axis.plot(values, ".-", label=name)
axes[0].set(xlabel="BatchNorm layer, from input to output", title="change of mean, std. deviations")
axes[1].set(xlabel="BatchNorm layer, from input to output", title="variance, new / old")
axes[2].set(xlabel="epoch", title="accuracy on val", xticks=range(fine_tune_epochs + 1))
axes[2].yaxis.set_major_formatter(PercentFormatter(1))
axes[2].legend(frameon=False, fontsize=8)
figure.tight_layout()
plt.show()

# %% [markdown]
# With BatchNorm frozen, no mean and no variance changes. Otherwise most of them move towards the statistics of these
# pictures, but only part of the way: layers get inputs that they were not trained for. The learning rate is tiny and
# the same in both runs, so the difference comes from BatchNorm. With many more steps, the averages converge and the
# weights adapt to them. A small data set does not give that many steps.
#
# ## Cuts
#
# The output of the frozen layers depends only on the picture. So the network is *cut* behind them: the tensor at the
# cut is computed once and cached, and training only runs the layers behind it. A cut is possible wherever a single
# tensor (in some networks, a few) carries all that the rest needs. `find_cuts` lists these places.

# %%
set_trainable(layers, 0)
model.set_weights(start)
cuts = find_cuts(model)
[cut] = cuts_at(classifier, {"fine-tuning": depth}).values()
figure, axes = plt.subplots(figsize=(8, 3.4))
axes.plot([each.share_after for each in cuts], [each.size(half=False) / 1024 for each in cuts], ".-", color="0.6")
chosen = f"the cut for {depth} layers: {cut.layer}"
axes.plot(cut.share_after, cut.size(half=False) / 1024, "o", color="C1", label=chosen)
axes.set(xlabel="share of the work behind the cut", ylabel="KiB cached per picture", yscale="log")
axes.xaxis.set_major_formatter(PercentFormatter(1))
axes.invert_xaxis()
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# From left to right, the cut moves from the picture to the answer. Further right, less is computed in every step, and
# mostly less is cached. `train.py` chooses a cut with a small tensor.
#
# A transformer is cut in the same way. Its weights are random here, because pretrained ones would be a download; the
# cuts do not depend on them.

# %%
with warnings.catch_warnings(action="ignore"):  # KerasHub warns about progress bars in Jupyter
    transformer = build_classifier(
        find("vit_tiny_patch16_224"), weights="none", image_size=224, task=inputs.data.task, num_classes=2
    )
figure, axes = plt.subplots(figsize=(8, 2.6))
cuts = find_cuts(transformer.model)
axes.plot([each.share_after for each in cuts], [each.size(half=False) / 1024 for each in cuts], ".-", color="0.6")
axes.set(xlabel="share of the work behind the cut", ylabel="KiB cached per picture", yscale="log")
axes.xaxis.set_major_formatter(PercentFormatter(1))
axes.invert_xaxis()
axes.spines[["top", "right"]].set_visible(False)
plt.show()
print(f"{len(transformer.blocks)} blocks, each with {len(transformer.blocks[1])} layer")

# %% [markdown]
# A block of a transformer maps tokens (one for each patch of the picture, and one for the whole picture) to as many
# tokens of the same width. So all cuts between two blocks have the same size; after the last block, only the token for
# the whole picture is kept. Each further block that is trained costs time in every step, but no more space.
#
# Is training behind the cut the same as training the whole network? We do both with plain Keras, from the same weights
# and in the same order, and compare loss and time.

# %%
front, tail = part_of(model.inputs, cut.tensors), part_of(cut.inputs, model.outputs)
features = np.concatenate([front(x[at : at + 64], training=False) for at in range(0, len(x), 64)])
losses, seconds = {}, {}
for name, network_part, given in (("whole network", model, x), ("behind the cut", tail, features)):
    model.set_weights(start)
    set_trainable(layers, depth)
    network_part.compile(keras.optimizers.Adam(1e-5), task.loss)
    losses[name] = network_part.fit(given, y, 32, shuffle=False, verbose=0).history["loss"]  # builds the graph
    started = time.perf_counter()
    losses[name] += network_part.fit(given, y, 32, epochs=2, shuffle=False, verbose=0).history["loss"]
    seconds[name] = (time.perf_counter() - started) / (2 * np.ceil(len(x) / 32))

figure, (left, right) = plt.subplots(1, 2, figsize=(8, 2.8))
for (name, values), style in zip(losses.items(), ("o-", "x--"), strict=True):
    left.plot(range(1, len(values) + 1), values, style, label=name)
left.set(xlabel="epoch", ylabel="training loss", xticks=range(1, 4))
left.legend(frameon=False)
bars = right.barh(list(seconds), [1000 * value for value in seconds.values()], color=["0.7", "C0"])
right.bar_label(bars, fmt="%.0f", padding=3)
right.set(xlabel="milliseconds per step of 32 pictures")
right.margins(x=0.15)
figure.tight_layout()
plt.show()
difference = np.abs(np.subtract(*losses.values())) / losses["whole network"]
print(f"largest relative difference of the losses: {difference.max():.1e}")

# %% [markdown]
# The curves are the same, except for rounding. In a run, the head is trained behind the last cut, on the pooled
# features, where a step takes almost no time; that is why a search can try hundreds of heads (notebook 4).
#
# ## Try next
#
# - `batch_size = 4` or `64` in the BatchNorm experiment: smaller batches have noisier statistics.
# - `unfrozen_blocks = 8`: how much time does the cut still save if more layers are trained?
