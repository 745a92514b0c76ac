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
# # 5. Reading the report
#
# A run ends with `report.html`: how good the model is, where it errs and why, and what may be wrong in the data. This
# notebook shows what is behind that page, on the animals, some of which get a wrong label on purpose.
#
# To open it: `pip install -r requirements-dev.txt`, then `jupyter lab notebooks`.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 1500  # about how many of them are used; None for all
mislabelled = 0.04  # share of the labels that are changed on purpose, to see whether they are found
image_size = 128  # height and width of the network's input, pixels
head_epochs = None  # most epochs of the head; None: it is solved, in one step

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # without its chatter: before anything else that needs it

import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from app.config import TrainConfig
from data.images.decode import read_picture
from headstart import train
from inference.load import load_model
from inference.predictor import Predictor
from notebooks.beginning import make_work_folder, quietly, show_pictures, shown_without, some_pictures
from reports.curves import draw_reliability
from reports.mistakes import explain_mistakes
from training.inputs import load_inputs

# %matplotlib inline
plt.rcParams["figure.dpi"] = 80
pd.options.display.float_format = "{:.3g}".format
console.width = 100
work = make_work_folder()  # gone when the notebook is closed

# %% [markdown]
# ## Some labels are wrong
#
# Real data has wrong labels. To know which ones are wrong, we change a few of the animals' labels at random. The
# network learns from them as from all others.

# %%
some = some_pictures(data, pictures, work)
table = pd.read_csv(some, dtype=str, keep_default_na=False)
classes = sorted(table["label"].unique())

random = np.random.default_rng(0)
changed = random.choice(len(table), round(mislabelled * len(table)), replace=False)
for row in changed:
    others = [name for name in classes if name != table["label"][row]]
    table.loc[row, "label"] = random.choice(others)
table.to_csv(some, index=False)
print(f"{len(changed)} of {len(table):,} labels are wrong now")

# %% [markdown]
# ## A run
#
# `train` of `headstart` does what `train.py` does, and returns the run. The backbone stays frozen, to be quick.

# %%
config = TrainConfig.of(
    data=str(some),
    outside=True,  # the pictures are not in the folder of the table
    image_size=image_size,
    trainable_layers=0,
    head_epochs=head_epochs,
    val_fraction=0.25,
    test_fraction=0.25,
    output=work / "run",
    cache_dir=work / "cache",
)
with shown_without(work):
    finished = train(config)

# %% [markdown]
# The page begins with a verdict in a sentence and, where there is reason, with what to be careful about:

# %%
verdict = json.loads((finished.folder / "report.json").read_text())["verdict"]
print(verdict["sentence"], *verdict["cautions"], sep="\n- ")

# %% [markdown]
# ## Do its probabilities mean what they say?
#
# Of all answers with a probability of 80 %, about 80 % should be right. Each dot is a group of answers, and small dots
# are groups of few. On the dashed line, the probabilities are right; below it, the model is too confident, above it not
# confident enough. A temperature corrects that: one number by which all logits are divided, fitted on val and merged
# into the weights. Above 1 it lowers the highest probability, below 1 it raises it, and it changes no answer. If val is
# small or has wrong labels, as here, the correction may not hold on test.

# %%
metrics = finished.metrics
calibration = metrics["calibration"]
print(f"temperature {calibration['temperature']:.2f}; on test")
for name, title in (("ece", "calibration error"), ("log_loss", "log loss")):
    before, after = (calibration["test"][f"{name}_{when}"] for when in ("before", "after"))
    print(f"{title}: {before:.3f} before, {after:.3f} after")
bins = pd.read_csv(finished.folder / "reliability.csv").groupby("temperature_scaling")
draw_reliability(before=bins.get_group("before"), after=bins.get_group("after"))

# %% [markdown]
# ## The most confident mistakes, and what it looked at
#
# Where a model is confident and wrong, there is something to learn: an odd picture, two classes that are easily
# confused, or a wrong label. `Predictor` gives the same probabilities that the run measured. Below each picture,
# Grad-CAM shows which parts spoke for the answer.


# %%
model = load_model(finished.trained)
with quietly():
    examples = load_inputs(config).data
outputs = Predictor(model, finished.trained.cut)(examples.inputs[0][examples.splits["test"]])
mistakes = explain_mistakes(examples, outputs, "test", model)
shown = mistakes.shown[:6]
print(f"{mistakes.num_mistakes} mistakes; the most confident:")
show_pictures(
    [each.sides[row].pixels for row in (0, 1) for each in shown],
    [f"label: {each.label}\n{each.said}" for each in shown] + [""] * len(shown),
    columns=len(shown),
)

# %% [markdown]
# ## Does it find the labels that we changed?
#
# `suspects.csv` names the labels of val and test that confident predictions contradict (confident learning, Northcutt
# et al., 2021). Training pictures are not judged: the model has learnt their labels. Red titles are labels that we did
# change.

# %%
suspects = pd.read_csv(finished.folder / "suspects.csv").query("kind == 'label_error'")
row_of = {examples.display_path(Path(path)): row for row, path in table["path"].items()}
judged = pd.read_csv(finished.folder / "predictions.csv")["path"].map(row_of)
named = suspects["path"].map(row_of)
wrong_judged, found = set(judged) & set(changed), set(named) & set(changed)
print(f"{len(wrong_judged)} wrong labels are in val and test: {len(found)} of them are suspected")
print(f"{len(named)} labels are suspected: {len(named) - len(found)} of them we did not change")

if len(named):
    show_pictures(
        [read_picture(table["path"][row], image_size) for row in named[:12]],
        [f"label: {each.label}\nrather: {each.other_label}" for each in suspects[:12].itertuples()],
        colours=["#c0392b" if row in changed else "0.2" for row in named],
    )

# %% [markdown]
# Look at the titles that are not red, if there are any: some of those pictures are hard to tell even for us. A
# suspected label is worth a look, no more.
#
# ## Try next
#
# - `mislabelled = 0.2`: does the model still find them?
# - `python train.py --data photos` leaves the page in `runs/`; open `report.html` in a browser.
# - Where one of two classes is rare and must be found, notebook 10 continues.
