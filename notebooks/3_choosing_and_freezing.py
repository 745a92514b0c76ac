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
# # 3. Choosing a backbone, and what to freeze
#
# Every transfer has three questions: which pretrained network (the *backbone*), which picture size, and how many
# layers to train. This notebook answers each by a small measurement.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 1500  # approximate number of pictures to use; None for all
backbones = None  # to compare, such as ("mobilenet", "resnet50"); None for those with weights on this machine
image_sizes = (32, 64, 96, 128)  # sizes to compare with the best backbone, pixels
image_size = 64  # size for the comparison of layers, pixels
unfrozen_blocks = (0, 1, 2, 4)  # numbers of last blocks to train, to compare
fine_tune_epochs = 3  # epochs of each of these
seed = 0  # random seed

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from app.terminal import import_tensorflow
from models.backbones import HUB, TABLE
from notebooks.beginning import make_work_folder, quietly, some_pictures

import_tensorflow()  # before Keras: hides the start-up messages of TensorFlow
from models.classifier import build_classifier
from training.inputs import load_inputs
from training.run import make_deterministic
from tuning.inputs import load_candidates
from tuning.network import Network
from tuning.ranking import rank
from tuning.space import TuneConfig

plt.rcParams["figure.dpi"] = 80
work = make_work_folder()
make_deterministic(seed)

# %% [markdown]
# ## Which backbone?
#
# These are the backbones that you can choose. Those of KerasHub, mostly vision transformers, need `pip install -r
# requirements-hub.txt`. Larger ones are more accurate on ImageNet, and slower. Their accuracy on *your* pictures may
# be different.

# %%
figure, axes = plt.subplots(figsize=(8, 4.5))
for library, every, rows in (("Keras", 3, TABLE), ("KerasHub", 8, [row for row in HUB if row.imagenet_accuracy])):
    axes.scatter([row.parameters for row in rows], [row.imagenet_accuracy for row in rows], s=12, label=library)
    for row in rows[::every]:
        place = row.parameters, row.imagenet_accuracy
        axes.annotate(row.name, place, xytext=(4, -3), textcoords="offset points", fontsize=7)
axes.legend(frameon=False, loc="lower right")
axes.set(xlabel="parameters without top, millions (logarithmic)", ylabel="published ImageNet accuracy", xscale="log")
axes.yaxis.set_major_formatter(PercentFormatter(1))
axes.spines[["top", "right"]].set_visible(False)
plt.show()

# %% [markdown]
# So measure it. `python tune.py --rank-backbones` computes the features of the pictures with each network, and fits a
# ridge regression on them; no network is trained. Offline, it compares the backbones whose weights are on this
# machine; online, name others in `backbones`.

# %%
settings = {} if backbones is None else {"backbone": tuple(backbones)}
search = TuneConfig.of(
    data=str(some_pictures(data, pictures, work)),
    outside=True,  # the pictures are not in the folder of the CSV file
    val_fraction=0.4,
    test_fraction=0.1,
    cache_dir=work / "cache",
    output=work / "ranking",
    trainable_layers=(0,),
    seed=seed,
    **settings,
)
folder, candidates = load_candidates(search)


def ranking(candidates: list, name: str) -> pd.DataFrame:
    """Ranks settings without printing."""
    with quietly():
        rank(search, candidates, work / name, time.perf_counter())
    return pd.read_csv(work / name / "ranking.csv")


ranked = ranking(candidates, "backbones")
ranked.set_index("backbone").round(3).T

# %% [markdown]
# ## Which picture size?
#
# A larger picture shows more to the network and takes longer: twice the side is four times the work. (The measured
# time includes a fixed time to start, which counts less with more pictures.) The silhouettes have 28 pixels a side, so
# enlarging them adds no detail; it only brings them nearer to the size of the pictures that the network was trained
# on. The bars are 95 % intervals; they are wide because there are few val pictures.

# %%
best = next(each for each in candidates if each.model.backbone == ranked["backbone"][0])
sizes = [best.replace(image_size=size) for size in image_sizes]
by_size = ranking(sizes, "sizes").sort_values("image_size")
figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
errors = by_size["ridge_accuracy"] - by_size["ridge_low"], by_size["ridge_high"] - by_size["ridge_accuracy"]
left.errorbar(by_size["image_size"], by_size["ridge_accuracy"], yerr=errors, fmt="o-", capsize=3)
left.yaxis.set_major_formatter(PercentFormatter(1))
left.set(xlabel="pixels a side", ylabel="accuracy on val", xticks=image_sizes)
right.plot(by_size["image_size"], 1000 / by_size["pictures_per_second"], "o-")
right.set(xlabel="pixels a side", ylabel="milliseconds per picture", ylim=(0, None), xticks=image_sizes)
figure.tight_layout()
plt.show()

# %% [markdown]
# ## How many layers to train?
#
# A network consists of blocks. The first ones detect edges and textures, which are the same everywhere; the last ones
# detect what the classes of ImageNet need, and gain most from training. We unfreeze none, the last block, the last two
# and so on, each from the same head. `Network` is a part of the search: it computes the frozen layers once for all
# these variants.

# %%
with quietly():
    inputs = load_inputs(best.replace(image_size=image_size))
classifier = build_classifier(
    inputs.backbone,
    weights="imagenet",
    image_size=image_size,
    task=inputs.data.task,
    num_classes=len(inputs.data.class_names),
    seed=seed,
)
blocks = classifier.blocks
layers_of_blocks = [0, *np.cumsum([len(block) for block in reversed(blocks)]).tolist()]
depths = {number: layers_of_blocks[number] for number in unfrozen_blocks}
print(f"{len(blocks)} blocks; layers in the last ones: {depths}")

network = Network(inputs, search.replace(trainable_layers=tuple(depths.values())))
config = inputs.config.replace(views=2, fine_tune_epochs=fine_tune_epochs)
tried = [network.complete(config.replace(trainable_layers=depth)) for depth in depths.values()]
outcomes = dict(network.run(list(enumerate(tried))))

# %%
figure, axes = plt.subplots(1, 3, figsize=(9, 2.8))
names = ("val_loss", "val_accuracy", "seconds")
for axis, name in zip(axes, names, strict=True):
    values = [getattr(outcomes[position], name) for position in range(len(tried))]
    axis.plot(list(depths), values, "o-")
    axis.set(xlabel="last blocks that learn", title=name.replace("_", " "), xticks=list(depths))
axes[1].yaxis.set_major_formatter(PercentFormatter(1, decimals=1))
axes[2].set_ylim(0, None)
figure.tight_layout()
plt.show()

# %% [markdown]
# Look at the loss rather than the accuracy: it shows smaller differences. A trial never ends worse than its head,
# since the epoch with the lowest loss is kept, and the head counts as an epoch. With few pictures like these, training
# more layers mostly takes more time; so `train.py` fine-tunes nothing below 1,000 training pictures unless you ask for
# it.
#
# ## Try next
#
# - Online: `backbones = ("efficientnet_lite0", "mobilenet", "dinov2_small")`, or with your own photos in `data`. Sizes
#   of `dinov2_small` are multiples of 14: with it, `image_sizes = (56, 98, 126)` and `image_size = 70`.
# - `pictures = None` and `unfrozen_blocks = (0, 1, 2, 4, 8)`: does unfreezing help with all the animals?
# - Notebook 11 shows BatchNorm during fine-tuning, and how the frozen layers are computed only once.
