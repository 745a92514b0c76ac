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
# If one of two classes is rare and must not be missed, accuracy says little. This notebook trains on pictures of which
# few are infected, asks for a sensitivity, and checks whether the test split confirms it.
#
# **The pictures are simulated.** They look like blood smears under a microscope. In an infected one, a cell has a
# parasite, a purple ring. Purple dots are platelets, and harmless. No package ships real medical pictures with labels,
# and figures from drawings say nothing about any disease. For real ones, set `data` to a folder with two folders of
# pictures, such as `healthy/` and `infected/`, or to a CSV of `path,label`. If a patient has several pictures, add a
# column `group` with the patient: `train.py` keeps each group in one split.

# %% tags=["parameters"]
data = None  # a folder or .csv of two classes; the rarer one is to be found; None draws smears
num_smears = 2000  # simulated smears to draw
prevalence = 0.08  # share of infected smears
rule = {"sensitivity": 0.95}  # how the threshold is chosen: the share of the infected to find, or see the end
image_size = 128  # height and width of the network's input, pixels

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # first: hides the start-up messages of TensorFlow

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from app.config import TrainConfig
from data.images.decode import read_picture
from data.images.explain import grad_cam, overlay
from data.labels import order_classes
from data.sources import load_source
from headstart import train
from inference.drawing import open_upright
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
work = make_work_folder()

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
    [np.asarray(open_upright(path)) for places in paths.values() for path in places[:6]],
    [name for name in paths for _ in range(6)],
)

# %% [markdown]
# ## The network's input
#
# `--resize crop`, the default, keeps the middle square: a parasite at the border is lost. `pad` and `stretch` keep
# everything. For medical pictures, use one of these two.

# %%
ways = ("crop", "pad", "stretch")
first = paths[infected][0]
show_pictures(
    [read_picture(first, image_size, resize) for resize in ways],
    [f"--resize {resize}" for resize in ways],
    columns=3,
)

# %% [markdown]
# ## Training
#
# `--sensitivity 0.95` chooses the threshold on val: it finds 95 % of the infected with the fewest false alarms.
# `predict.py`, `demo.py`, `serve.py` and the exported files use it, too. The splits are larger than usual, so that
# each has more infected pictures.

# %%
config = TrainConfig.of(
    data=place,
    resize="pad",
    val_fraction=0.3,
    test_fraction=0.3,
    image_size=image_size,
    trainable_layers=0,
    **rule,
    output=work / "run",
    cache_dir=work / "cache",
)
with shown_without(work):
    finished = train(config)

# %% [markdown]
# Calling everyone healthy (*majority*) has the higher accuracy, and finds nobody. Two other figures say more:
#
# - **sensitivity**: the share of the infected that are found,
# - **specificity**: the share of the healthy that are not called infected.
#
# The line *decision* has both. A sensitivity that holds on val may not hold on test. The report says how many infected
# pictures it takes to show it.

# %%
metrics = finished.metrics
decision = metrics["decision"]["classes"][infected]
if promise := metrics["decision"]["promise"]:
    share = promise["share"]
    for split in ("val", "test"):
        right, count = decision[split]["counts"][share]
        low, high = decision[split][f"{share}_ci95"]
        print(f"{split}: {share} {right} of {count}; 95 % interval {low:.0%} to {high:.0%}")
    print(f"to show a {share} of {promise['least']:g}, it takes {promise['needed']} of {promise['needed']}")

# %% [markdown]
# ## All thresholds
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
# Which threshold is right depends on what an error costs. In screening, a missed infection is worse than a false
# alarm. The table compares three thresholds on test: 0.5, the one with the largest sum of sensitivity and specificity
# on val (Youden, 1950), and that of the run. The last columns are for 1,000 people, with the same share of infected as
# here.

# %%
candidates = {
    "0.5": 0.5,
    "largest sum on val": metrics["operating_point"]["threshold"],
    metrics["decision"]["flag"]: decision["threshold"],
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
# ## Grad-CAM
#
# A model can be right for a wrong reason: a ruler, a stamp, the edge of the glass. Grad-CAM shows what supports
# *infected*: first in the three infected pictures with the highest probability, then in the three with the lowest.
# Check whether the ring is highlighted. If nothing supports *infected*, the map is empty. The map is coarse, since the
# last layer has only a few cells per picture.

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
# - `rule = {"sensitivity": 0.99}`, `rule = {"specificity": 0.99}`, or `rule = {"cost": "20:1"}`: a missed infection
#   costs as much as 20 false alarms.
# - Train with `class_weights=True`, which counts each class equally, or with `resize="crop"`, and compare.
# - `python evaluate.py RUN --sensitivity 0.98` chooses a new threshold for a finished run, without training.
