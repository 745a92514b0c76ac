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
# # 4. Searching hyperparameters
#
# Which learning rate should the head have, which batch size, how many epochs, how much dropout? Nobody knows
# beforehand. A search tries many settings on the same pictures and keeps the best. `tune.py` does that on the command
# line; here the same functions are called from Python.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 2000  # approximate number of pictures to use; None for all
backbone = "efficientnet_lite0"  # pretrained network; the heads are trained on its features
image_size = 64  # height and width of the network's input, pixels
max_trials = 24  # number of trials
head_epochs = (5, 10, 20)  # numbers of epochs to choose from

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # first: hides the start-up messages of TensorFlow

import json
import time

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from app.config import TrainConfig
from notebooks.beginning import make_work_folder, shown_without, some_pictures
from reports import search_plots
from tuning.inputs import load_search_inputs
from tuning.records import as_drawn, varied_in
from tuning.search import search
from tuning.space import TuneConfig, search_space

# %matplotlib inline
plt.rcParams["figure.dpi"] = 80
pd.options.display.float_format = "{:.3g}".format
console.width = 100
work = make_work_folder()

# %% [markdown]
# ## The pictures
#
# To be quick, we take a part of each class, and list the files in a CSV file.

# %%
some = some_pictures(data, pictures, work)
pd.read_csv(some)["label"].value_counts(sort=False)

# %% [markdown]
# ## What is searched
#
# `TuneConfig` takes the flags of `tune.py`. For learning rates, dropout and weight decay, two values are a range. For
# all others, several values are choices. One value is fixed. What you leave out has the default of `tune.py`.
# `trainable_layers=(0,)` keeps the backbone frozen: only heads are searched. That takes seconds, so begin there.

# %%
config = TuneConfig.of(
    data=str(some),
    outside=True,  # the pictures are not in the folder of the CSV file
    val_fraction=0.25,  # enough pictures for choosing
    test_fraction=0.25,
    backbone=(backbone,),
    image_size=image_size,
    trainable_layers=(0,),
    learning_rate=(1e-4, 1e-1),
    batch_size=(32, 64),
    head_epochs=head_epochs,
    optimizer=("adam", "sgd"),
    head_units=(0, 128),
    max_trials=max_trials,
    cache_dir=work / "cache",
    output=work / "search",
)

# %% [markdown]
# `SPACE` in `tuning/space.py` has a line for each hyperparameter; to search another one, add a line. Below is the
# space of this search. Learning rate and weight decay are drawn on a logarithmic scale: values between 0.0001 and
# 0.001 are as likely as values between 0.01 and 0.1.

# %%
depths = config.space["trainable_layers"] or range(3)  # left out: none, the last block, the last two
space = [each.get_config() for each in search_space(config, depths).space]
columns = ["name", "values", "min_value", "max_value", "sampling"]
print(pd.DataFrame(space)[columns].to_string(index=False, na_rep="", float_format="{:g}".format))

# %% [markdown]
# ## The search
#
# `tune.py` does the same: it checks the settings, decodes the pictures, searches, and trains the winner again. It
# prints the same lines.

# %%
started = time.perf_counter()
with shown_without(work):
    folder, inputs = load_search_inputs(config)
    search(config, inputs, folder, started)

# %% [markdown]
# Every trial is a row of `trials.csv`, written as soon as the trial has ended. To resume a killed search, give the
# same command again.

# %%
trials = as_drawn(pd.read_csv(folder / "trials.csv"))
varied = varied_in(trials)
order = search_plots.ranked(trials, "val_accuracy")
order.set_index("trial")[["val_accuracy", "val_loss", *varied]].head(8)

# %% [markdown]
# ## What the search found
#
# *Progress*: each dot is a trial. If the line of the best stays level for long, more trials bring little.

# %%
search_plots.search_progress(trials, "val_accuracy")

# %% [markdown]
# *Effects*: one panel for each hyperparameter. A slope or a gap means that it matters; an even cloud means that it
# does not, or not alone. The bar is the median of a choice.

# %%
search_plots.hyperparameter_effects(trials, varied, "val_accuracy")

# %% [markdown]
# ## Why it is fast
#
# The backbone is frozen, so its features are the same in every trial. They are computed once, before the first trial.
# Then heads of the same shape and batch size are trained together: their weights are stacked, and one computation
# serves up to 16 heads of each optimizer.
#
# The last bar is an estimate, from the second bar: the time of the frozen layers if every epoch of every trial
# computed them again.

# %%
record = json.loads((folder / "search.json").read_text())
seconds, sizes = record["seconds"], {split: len(rows) for split, rows in inputs[0].data.splits.items()}
epochs, views = int(trials["head_epochs"].sum()), int(trials["views"].max())
passed_once = views * sizes["train"] + sizes["val"] + sizes["test"]
again = seconds["features"] / passed_once * epochs * sizes["train"]
bars = {
    "decode the pictures": seconds["prepare"],
    "frozen layers, once": seconds["features"],
    f"{len(trials)} trials": seconds["search"],
    "the winner again, with its report": seconds["best"],
    "frozen layers in every epoch": again,
}
figure, axes = plt.subplots(figsize=(8, 2.4), layout="constrained")
axes.bar_label(axes.barh(list(bars), list(bars.values()), color=[*["#5b7c99"] * 4, "0.8"]), fmt=" %.0f")
axes.invert_yaxis()
axes.set(xlabel="seconds", xlim=(0, 1.1 * max(bars.values())))
plt.show()

together = trials[trials["head_epochs"] > 0].groupby(["batch_size", "head_units"]).size()
print(f"{len(trials)} trials have {epochs} epochs; each picture passed the frozen layers in {views} views.")
print(f"Trials of equal batch size and shape, which learn together: {', '.join(map(str, together))}.")

# %% [markdown]
# ## The winner
#
# `best_config.json` holds all its settings; `python train.py --config best_config.json` gives the same result. `best/`
# is its run folder, with a report and the model.

# %%
winner = json.loads((folder / "best_config.json").read_text())
default = TrainConfig().flat()
pd.DataFrame(
    [(name, winner[name], default[name]) for name in (*varied, "image_size")],
    columns=["setting", "winner", "default (None: chosen by the data)"],
).set_index("setting")

# %% [markdown]
# ## How reliable is its accuracy?
#
# Every trial was measured on val, and we kept the best. Among so many, one may be the best by luck. Test was used
# once, at the end: its accuracy is the one to report. Val and test are different pictures, and either may be easier.
# The interval allows for that.

# %%
metrics = json.loads((folder / "best" / "metrics.json").read_text())
truth, (low, high) = metrics["test"]["accuracy"], metrics["test"]["accuracy_ci95"]
figure, axes = plt.subplots(figsize=(7, 3), layout="constrained")
axes.hist(trials["val_accuracy"], bins=20, color="#5b7c99", label="the trials, on val")
axes.axvline(record["best"]["val_accuracy"], color="#d1603d", label="the winner, on val")
axes.axvline(truth, color="0.2", ls="--", label="the winner, on test")
axes.axvspan(low, high, color="0.2", alpha=0.12, label="95 % interval of that", lw=0)
axes.set(xlabel="accuracy", ylabel="trials")
axes.legend(frameon=False, fontsize=9)
plt.show()

found = record["best"]["val_accuracy"]
print(f"val was measured {record['trials']['done']} times; the best trial has {found:.1%}")
print(f"test was measured once: {truth:.1%}, 95 % interval {low:.1%} to {high:.1%}")

# %% [markdown]
# How large can this luck be? Suppose that all trials are as good as the winner is on test, and that each is measured
# on its own pictures, as many as val has. The best of them would still look better than it is:

# %%
count = metrics["val"]["n"]
best_of_equals = np.random.default_rng(0).binomial(count, truth, (10_000, len(trials))).max(axis=1) / count
print(f"{len(trials)} trials of {truth:.1%}, each on {count} other pictures: the best has {best_of_equals.mean():.1%}")

# %% [markdown]
# Here all trials are measured on the same val pictures. What is hard for one is hard for most, so luck has a smaller
# effect than this. More val pictures make it smaller still. So does `--finalists 3`, which repeats the best three
# trials with other seeds, and chooses by the mean.
#
# ## Try next
#
# - All pictures: `pictures = None`, and `image_size = 128`.
# - `trainable_layers=()` also fine-tunes the last block, or two; each such trial takes as long as a run of `train.py`.
# - `oracle="bayesian"` learns from the trials so far; `"hyperband"` stops trials early that begin badly.
# - `python tune.py --data photos --workers 2` runs trials in two processes.
