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
# # 1. First transfer
#
# A network trained on a million photos already recognises edges, textures, legs and ears. Transfer learning keeps this
# knowledge, and learns only your classes. This notebook measures what that is worth. It compares four ways to learn
# from the same few pictures:
#
# 1. no network: a linear model on raw pixels,
# 2. a network from scratch: random weights, all layers are trained,
# 3. the same network with pretrained weights: only a new last layer (the *head*) is trained,
# 4. the same, and then the last layers of the network are trained, too (*fine-tuning*).

# %% tags=["parameters"]
data = "animals"  # silhouettes; or your own, one label each: a folder of CLASS/picture files, a .csv or "tfds:NAME"
pictures = 2000  # approximate number of pictures to use; None for all
backbone = "efficientnet_lite0"  # its weights come with the packages; others are downloaded, see the README
image_size = 64  # height and width of the network's input, pixels
scratch_epochs = 4  # epochs of the network from scratch; more are better
head_epochs = None  # epochs of the head; None solves it as a logistic regression, in seconds
fine_tune_epochs = 5  # most epochs of fine-tuning
trainable_layers = None  # number of last layers to fine-tune; None takes the last blocks
seed = 0  # random seed

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import json
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from app.config import TrainConfig
from app.terminal import import_tensorflow
from data.sources import SPLITS
from headstart import train
from notebooks.beginning import make_work_folder, quietly, show_pictures, some_pictures
from reports.baselines import simple_right
from training.inputs import load_inputs

import_tensorflow()

plt.rcParams["figure.dpi"] = 80
work = make_work_folder()

# %% [markdown]
# ## The pictures
#
# We use only some of the pictures, since most people have few. A CSV file with the columns `path`, `label` and `split`
# lists them; `split` is empty if the data has no splits, and a column `group` is added if it has groups.

# %%
base = TrainConfig.of(
    data=str(some_pictures(data, pictures, work)),
    outside=True,  # the pictures are not in the folder of the CSV file
    val_fraction=0.25,
    test_fraction=0.25,
    backbone=backbone,
    image_size=image_size,
    cache_dir=work / "cache",
    seed=seed,
)
some = load_inputs(base).data

# %% [markdown]
# Every picture is in one of three splits. *train* is for learning. *val* is for choosing: the epoch, the settings, one
# of the four ways. *test* is used once, at the end, because a model looks better than it is on the split that it was
# chosen on.

# %%
labels = np.array([picture.labels[0] for picture in some.examples])
firsts = [some.splits["train"][labels[some.splits["train"]] == name][0] for name in some.class_names]
show_pictures([some.inputs[0][first] for first in firsts], some.class_names, columns=5)
pd.DataFrame({split: pd.Series(labels[some.splits[split]]).value_counts() for split in SPLITS}).T

# %% [markdown]
# ## 1. No network
#
# A logistic regression on the pixel values. This is the baseline that a network has to beat.

# %%
results = {}
started = time.perf_counter()
baseline, splits = some.kind.baseline, some.splits
examples = (some.inputs, some.contents, some.targets)
accuracy = simple_right(baseline, *examples, splits["train"], splits["val"], some.task).mean()
results["raw pixels,\nlinear model"] = {"accuracy": accuracy, "seconds": time.perf_counter() - started}
print(f"val accuracy {accuracy:.1%}")

# %% [markdown]
# ## 2. to 4. The network
#
# Each of these is one run, as `train.py` makes it, with other settings. A run also measures itself on *test*. We do
# not look at that yet: printed lines are hidden, and only the accuracy on *val* is used.


# %%
def run(name: str, **settings) -> Path:
    """Trains, stores accuracy and seconds of learning, and returns the run folder."""
    config = base.replace(output=work / f"run {len(results)}", **settings)
    with quietly():
        trained = train(config)
    metrics = trained.metrics
    seconds = sum(metrics["seconds"][stage] for stage in ("features", "head", "fine_tune"))
    results[name] = {"accuracy": metrics["val"]["accuracy"], "seconds": seconds, "folder": trained.folder}
    print(f"val accuracy {metrics['val']['accuracy']:.1%}, {seconds:.0f} seconds of learning")
    return trained.folder


# %% [markdown]
# **From scratch.** `weights="none"` starts from random weights, and all layers are trained in every step.

# %%
scratch = run("from scratch,\nall layers learn", weights="none", fine_tune_epochs=scratch_epochs, patience=99)

# %% [markdown]
# **Only a new head.** The pretrained layers are frozen, so their output for a picture never changes. It is computed
# once and cached, and the head is trained on it.

# %%
head = run("pretrained,\na new head", head_epochs=head_epochs, fine_tune_epochs=0)

# %% [markdown]
# **The last layers, too.** After the head, the last layers of the network are trained with a low learning rate. The
# head comes first: a random head would send large, meaningless gradients into the pretrained layers. The seconds
# include one pass through the layers that stay frozen, but not the features for the head, which are cached already.

# %%
tuned = run(
    "pretrained,\nlast layers tuned",
    head_epochs=head_epochs,
    fine_tune_epochs=fine_tune_epochs,
    trainable_layers=trainable_layers,
)

# %% [markdown]
# ## What it is worth
#
# The dotted line is guessing.

# %%
table = pd.DataFrame(results).T
figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.2), sharey=True)
colours = ["0.7", "C1", "C0", "C0"]
for axis, column, text in ((left, "accuracy", "{:.1%}"), (right, "seconds", "{:,.1f} s")):
    bars = axis.barh(table.index, table[column], color=colours)
    axis.bar_label(bars, [text.format(value) for value in table[column]], padding=3)
    axis.spines[["top", "right"]].set_visible(False)
left.invert_yaxis()
left.axvline(1 / len(some.class_names), color="0.4", ls=":")
left.xaxis.set_major_formatter(PercentFormatter(1))
left.set(xlabel="accuracy on val", xlim=(0, 1.2))
right.set(xlabel="seconds of learning", xlim=(0, 1.25 * table["seconds"].max()))
figure.tight_layout()
plt.show()

# %% [markdown]
# The network from scratch is weak because it has to learn what an edge is from these few pictures. More epochs would
# help, and more pictures would help most. With few pictures, the last two ways are often close; then the head alone is
# enough.

# %%
figure, axes = plt.subplots(figsize=(6, 3))
for folder, name in ((scratch, "from scratch"), (tuned, "pretrained: head, then last layers")):
    history = pd.read_csv(folder / "history.csv")
    axes.plot(np.arange(1, len(history) + 1), history["val_accuracy"], ".-", label=name)
axes.yaxis.set_major_formatter(PercentFormatter(1))
axes.set(xlabel="epoch", ylabel="accuracy on val", ylim=(0, 1))
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# An epoch of a head on cached features takes a fraction of a second, an epoch of the whole network many times that.
# The best run is chosen on val. Then it is measured once on test:

# %%
best = max((row for row in results.values() if "folder" in row), key=lambda row: row["accuracy"])
metrics = json.loads((best["folder"] / "metrics.json").read_text())
low, high = metrics["test"]["accuracy_ci95"]
print(f"test accuracy {metrics['test']['accuracy']:.1%} (95 % interval {low:.1%} to {high:.1%})")
print(f"{metrics['test']['n']:,} pictures, used for nothing before")

# %% [markdown]
# ## Try next
#
# - `pictures = 500`: the fewer pictures, the more the pretrained weights are worth.
# - `image_size = 128`, the default of `train.py` for these pictures: slower and more accurate.
# - `scratch_epochs = 30`: how accurate does it get, and how long does it take?
# - Your own folder in `data`. In a terminal: `python train.py --data photos`.
