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
# Three questions come up in every transfer: which pretrained network (the *backbone*), at which size of picture, and
# how many of its layers should learn. This notebook answers each by a small measurement.
#
# To open it: `pip install -r requirements-dev.txt`, then `jupyter lab notebooks`. Run notebook 1 first if this is all
# new.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 1500  # about how many of them are used; None for all
backbones = None  # to compare, such as ("mobilenet", "resnet50"); None for those whose weights are here
image_sizes = (32, 64, 96, 128)  # at which the best of them is compared, pixels
image_size = 64  # for all that follows, pixels
unfrozen_blocks = (0, 1, 2, 4)  # numbers of last blocks that learn, to compare
fine_tune_epochs = 3  # epochs of each comparison below
seed = 0  # of everything random

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import os
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import PercentFormatter

from app.terminal import import_tensorflow
from models.backbones import HUB, TABLE
from notebooks.beginning import make_work_folder, quietly, some_pictures

os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"  # Keras' own pipelines log an error that is none
import_tensorflow()
from models.classifier import build_classifier
from training.inputs import load_inputs
from training.run import make_deterministic
from tuning.inputs import load_candidates
from tuning.network import Network
from tuning.ranking import rank
from tuning.space import TuneConfig

plt.rcParams["figure.dpi"] = 80
work = make_work_folder()  # gone when the notebook is closed
make_deterministic(seed)

# %% [markdown]
# ## Which backbone?
#
# These can be named, those of KerasHub, vision transformers most of them, after `pip install -r requirements-hub.txt`.
# Larger ones are right more often on ImageNet, and take longer for every picture; what they are worth on *your*
# pictures, that table cannot say.

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
# So ask the pictures. `python tune.py --rank-backbones` runs each network once and solves a ridge regression on what
# it makes of the pictures. Nothing is trained. Without a connection there is nothing to compare but the weights that
# are on this machine; with one, name some in `backbones`.

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
    """Ranks settings; what is printed meanwhile is put aside."""
    with quietly():
        rank(search, candidates, work / name, time.perf_counter())
    return pd.read_csv(work / name / "ranking.csv")


ranked = ranking(candidates, "backbones")
ranked.set_index("backbone").round(3).T

# %% [markdown]
# ## At which size?
#
# The same network sees more in a larger picture, and takes longer: twice the side is four times the work. (The
# measured time contains what it takes to begin, which weighs less the more pictures there are.) The silhouettes have
# 28 pixels a side, so enlarging them adds no detail; it only brings them nearer to the size at which the network
# learnt what things look like. The bars are 95 % intervals: few val pictures make wide ones.

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
# ## How many layers learn?
#
# Networks are built of blocks. The first see edges and textures, which are the same everywhere; the last see what the
# classes of ImageNet need, and gain most from learning again. We unfreeze none, the last block, the last two and so
# on, each from the same head. `Network` is what a search does: the frozen layers run once for all depths.

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
# Look at the loss rather than the accuracy: it moves before the accuracy does. A trial never ends worse than its
# head, since the epoch of the lowest loss is kept, and the head is one of them. On few pictures like these, deeper is
# mostly slower; that is why `train.py` fine-tunes nothing below 1,000 training pictures unless you ask for it.
#
# ## Try next
#
# - With a connection: `backbones = ("efficientnet_lite0", "mobilenet", "dinov2_small")`, or with your own folder of
#   photos in `data`.
# - `pictures = None` and `unfrozen_blocks = (0, 1, 2, 4, 8)`: with all the animals, where does unfreezing begin to
#   pay?
# - Notebook 11 shows what BatchNorm does meanwhile, and how the frozen part is computed only once.
