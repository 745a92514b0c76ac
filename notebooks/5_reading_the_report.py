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
# A run ends with `report.html`: how good the model is, where and why it errs, and what may be wrong in the data. This
# notebook shows how these parts are made, on the animals. Some labels are changed on purpose.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 1500  # approximate number of pictures to use; None for all
mislabelled = 0.04  # share of the labels that are changed on purpose
image_size = 128  # height and width of the network's input, pixels
head_epochs = None  # most epochs of the head; None solves it as a logistic regression

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # first: hides the start-up messages of TensorFlow

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
work = make_work_folder()

# %% [markdown]
# ## Some labels are wrong
#
# Real data has wrong labels. To know which ones are wrong, we change a few labels at random. The network learns from
# them as from all others.

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
# `train` does what `train.py` does, and returns the run. The backbone stays frozen, to be quick.

# %%
config = TrainConfig.of(
    data=str(some),
    outside=True,  # the pictures are not in the folder of the CSV file
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
# The report begins with a verdict in one sentence, and warnings if there are any:

# %%
verdict = json.loads((finished.folder / "report.json").read_text())["verdict"]
print(verdict["sentence"], *verdict["cautions"], sep="\n- ")

# %% [markdown]
# ## Are its probabilities right?
#
# Of all answers with a probability of 80 %, about 80 % should be right. Each dot is a group of answers; a small dot is
# a small group. On the dashed line, the probabilities are right; below it, the model is too confident; above it, not
# confident enough. A temperature corrects this: all logits are divided by one number, which is fitted on val and
# merged into the weights. Above 1 it lowers the highest probability, below 1 it raises it. It changes no answer. If
# val is small or has wrong labels, as here, the correction may not hold on test.

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
# ## The most confident mistakes
#
# A confident mistake has a reason: an unusual picture, two classes that are easily confused, or a wrong label.
# `Predictor` gives the same probabilities that the run measured. Below each picture, Grad-CAM shows which parts
# support the answer.


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
# `suspects.csv` lists the labels of val and test that confident predictions contradict (confident learning, Northcutt
# et al., 2021). Labels of train are not checked, since the model was trained on them. Red titles are labels that we
# did change.

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
# Look at the titles that are not red, if there are any: some of these pictures are hard even for people. A suspected
# label is not always wrong.
#
# ## Try next
#
# - `mislabelled = 0.2`: does the model still find them?
# - `python train.py --data photos` writes `report.html` to a folder in `runs/`; open it in a browser.
# - If one of two classes is rare and must be found, see notebook 10.
