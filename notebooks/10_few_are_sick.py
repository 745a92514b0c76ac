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
# # 10. Few are sick: sensitivity, specificity and the threshold
#
# Where one of two classes is rare and must not be missed, accuracy says little. This notebook trains on pictures of
# which few are infected, asks for a sensitivity, and looks at what the report can promise.
#
# **The pictures are simulated.** They look like blood smears under a microscope, in some of which a cell has a
# parasite, a purple ring; purple dots outside of cells are platelets and harmless. No package ships real medical
# pictures with labels, and figures from drawings say nothing about any disease. For real ones, set `data` to a folder
# with two folders of pictures, such as `healthy/` and `infected/`, or to a CSV of `path,label`. If a patient has
# several pictures, add a column `group` with the patient: `train.py` keeps each group on one side of a split.
#
# To open it: `pip install -r requirements-dev.txt`, then `jupyter lab notebooks`.

# %% tags=["parameters"]
data = None  # a folder or .csv of two classes, of which the rarer is to be found; None: drawings
num_smears = 2000  # simulated smears to draw
prevalence = 0.08  # share of them that is infected
sensitivity = 0.95  # share of the infected that must be found
image_size = 128  # height and width of the network's input, pixels

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # without its chatter: before anything else that needs it

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from app.config import TrainConfig
from data.images.decode import read_picture
from data.images.explain import grad_cam, overlay
from data.labels import order_classes
from data.sources import load_source
from headstart import train
from inference.load import load_model
from notebooks.beginning import locate, make_work_folder, quietly, show_pictures, shown_without
from notebooks.smears import write_smears
from reports.curves import class_curves, draw_roc, draw_thresholds
from tasks.classification import BINARY
from tasks.metrics import measure_threshold
from training.inputs import load_inputs

# %matplotlib inline
plt.rcParams["figure.dpi"] = 80
console.width = 100
work = make_work_folder()  # gone when the notebook is closed

# %%
if data is None:
    write_smears(work / "smears", num_smears, prevalence)
place = locate(data) if data else str(work / "smears")
source = load_source(place, work / "cache")
healthy, infected = order_classes(source, None)
paths = {healthy: [], infected: []}
for each in source.examples:
    paths[each.labels[0]].append(each.path)
print(", ".join(f"{len(places):,} {name}" for name, places in paths.items()))
show_pictures(
    [plt.imread(path) for places in paths.values() for path in places[:6]],
    [name for name in paths for _ in range(6)],
)

# %% [markdown]
# ## What the network gets to see
#
# A network takes squares. `--resize crop`, the default, keeps the middle of a long picture, and a parasite at the
# border is gone, before anything is learnt. `pad` keeps everything and adds black bars; `stretch` keeps everything and
# changes proportions. For medical pictures take one of the two.

# %%
ways = ("crop", "pad", "stretch")
first = paths[infected][0]
show_pictures(
    [read_picture(first, image_size, resize) for resize in ways],
    [f"--resize {resize}" for resize in ways],
    columns=3,
)

# %% [markdown]
# ## A run that has to find them
#
# `--sensitivity 0.95` chooses the threshold: the highest probability from which 95 % of the infected of *val* are
# found. Every later answer obeys it: those of `predict.py`, `demo.py`, `serve.py` and of the exported files. The
# splits are larger than usual, so that each holds enough of the infected to measure anything.

# %%
config = TrainConfig.of(
    data=place,
    resize="pad",
    val_fraction=0.3,
    test_fraction=0.3,
    image_size=image_size,
    trainable_layers=0,
    sensitivity=sensitivity,
    output=work / "run",
    cache_dir=work / "cache",
)
with shown_without(work):
    finished = train(config)

# %% [markdown]
# The program that calls everyone healthy (*majority*) has the higher accuracy, and finds nobody. So two questions
# replace it:
#
# - **sensitivity**: of the infected, how many are found?
# - **specificity**: of the healthy, how many are left alone?
#
# The line *decision* answers both. A share that holds on val need not hold on test: the report says how many infected
# it would take to show it.

# %%
metrics = finished.metrics
decision = metrics["decision"]["classes"][infected]
for split in ("val", "test"):
    found, infected_there = decision[split]["counts"]["sensitivity"]
    low, high = decision[split]["sensitivity_ci95"]
    print(f"{split}: {found} of {infected_there} found; 95 % interval {low:.0%} to {high:.0%}")
print(f"to show {sensitivity:.0%} takes {metrics['decision']['promise']['needed']}, all found")

# %% [markdown]
# ## Every threshold at once
#
# The ROC curve shows how many of the infected are found (up) against how many of the healthy are called infected
# (right). The dot is the threshold of the run.

# %%
predictions = pd.read_csv(finished.folder / "predictions.csv").query("split == 'test'")
scores = predictions[[f"probability_{infected}"]].to_numpy(np.float32)
truths = (predictions[["label"]] == infected).to_numpy(np.float32)
[curves] = class_curves(truths, scores, [healthy, infected], BINARY).values()
draw_roc([curves], (1 - decision["test"]["specificity"], decision["test"]["sensitivity"]))

# %%
draw_thresholds(curves, decision["threshold"], healthy)

# %% [markdown]
# Which threshold is right depends on what an error costs. To screen, a missed infection is worse than a false alarm.
# Below are three: one half, the one where sensitivity and specificity together are largest on val (Youden, 1950), and
# that of the run, each measured on test. The last columns are about 1,000 people of whom as many are infected as here.

# %%
candidates = {
    "one half": 0.5,
    "largest together on val": metrics["operating_point"]["threshold"],
    f"{sensitivity:.0%} sensitivity on val": decision["threshold"],
}
share, rows = truths.mean(), {}
for name, threshold in candidates.items():
    found = measure_threshold(truths, scores, threshold)
    rows[name] = {
        "threshold": f"{threshold:.3f}",
        "sensitivity": "{:.0%} ({:.0%} to {:.0%})".format(found["sensitivity"], *found["sensitivity_ci95"]),
        "specificity": "{:.0%} ({:.0%} to {:.0%})".format(found["specificity"], *found["specificity_ci95"]),
        "found of 1,000": round(1000 * share * found["sensitivity"]),
        "missed": round(1000 * share * (1 - found["sensitivity"])),
        "false alarms": round(1000 * (1 - share) * (1 - found["specificity"])),
    }
pd.DataFrame(rows).T

# %% [markdown]
# ## What it looked at
#
# A model can be right for a wrong reason: a ruler, a stamp, the edge of the glass. Grad-CAM shows what speaks for
# *infected*: first in the three infected that it is surest of, then in the three that it is furthest from. See whether
# the light is on the ring. Where nothing speaks for it, the map is empty. It is coarse: the last layer sees a picture
# as a few fields.

# %%
with quietly():
    examples = load_inputs(config).data
order = np.argsort(np.where(truths == 1, scores, np.nan)[:, 0])[: int(truths.sum())]
chosen = [*order[::-1][:3], *order[:3]]
pixels = examples.inputs[0][examples.splits["test"][chosen]]
heatmaps = grad_cam(load_model(finished.trained), pixels, np.ones(len(chosen), int))
show_pictures(
    [*pixels, *(overlay(*pair) for pair in zip(pixels, heatmaps, strict=True))],
    [f"{infected}: {scores[row, 0]:.1%}" for row in chosen] + [""] * len(chosen),
    columns=len(chosen),
)

# %% [markdown]
# ## Try next
#
# - `prevalence = 0.02`: the intervals grow, and so does the accuracy of calling everyone healthy.
# - `sensitivity = 0.99`, or `specificity=0.99` or `cost="20:1"` in its place.
# - Train with `class_weights=True`, which counts each class equally, or with `resize="crop"`, and compare.
# - `python evaluate.py RUN --sensitivity 0.98` chooses anew for a finished run, without training.
