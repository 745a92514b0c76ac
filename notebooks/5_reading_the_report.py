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
# notebook goes through what is behind that page, first on the animals, some of which get a wrong label on purpose,
# then on a medical task with few sick: sensitivity, specificity, and where to put the threshold.
#
# To open it: `pip install -r requirements-dev.txt`, then `jupyter lab notebooks`.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 1500  # about how many of them are used; None for all
mislabelled = 0.04  # share of the labels that are changed on purpose, to see whether they are found
medical_data = None  # a folder or .csv of two classes, the rarer one is looked for; None: drawings
num_smears = 2000  # simulated smears to draw
prevalence = 0.08  # share of them that is infected
image_size = 128  # height and width of the network's input, pixels
head_epochs = None  # most epochs of the head; None: it is solved, in one step

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # without its chatter: before anything else that needs it

import io
import json
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image, display

from app.config import TrainConfig
from data.images.decode import read_picture
from data.images.explain import grad_cam, overlay
from data.labels import order_classes
from data.sources import load_source
from headstart import train
from inference.load import load_model
from inference.predictor import Predictor
from notebooks.beginning import locate, make_work_folder, quietly, shown_without, some_pictures
from notebooks.smears import write_smears
from reports.curves import class_curves, draw_reliability, draw_roc, draw_thresholds
from reports.mistakes import explain_mistakes
from tasks.classification import BINARY
from tasks.metrics import measure_threshold
from training.inputs import load_inputs

# %matplotlib inline
plt.rcParams["figure.dpi"] = 80
pd.options.display.float_format = "{:.3g}".format
console.width = 100
work = make_work_folder()  # gone when the notebook is closed

# %% [markdown]
# ## Some labels are wrong
#
# Real data has wrong labels. So that we know which, we change a few of the animals' labels, at random. The network
# learns from them as from all others: nobody tells it.

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
def run(name, **settings):
    """Trains a head, prints what train.py prints, and returns the examples and the run."""
    config = TrainConfig.of(
        output=work / name,
        image_size=image_size,
        trainable_layers=0,
        head_epochs=head_epochs,
        cache_dir=work / "cache",
        **settings,
    )
    with quietly():
        examples = load_inputs(config).data
    with shown_without(work):
        return examples, train(config)


examples, finished = run("animals", data=str(some), outside=True, val_fraction=0.25, test_fraction=0.25)

# %% [markdown]
# The page begins with a verdict in a sentence and, where there is reason, with what to be careful about:

# %%
verdict = json.loads((finished.folder / "report.json").read_text())["verdict"]
print(verdict["sentence"], *verdict["cautions"], sep="\n- ")

# %% [markdown]
# ## Is it as sure as it is right?
#
# Of all answers of which it says 80 %, about 80 % should be right. Each dot is a group of answers; on the dashed line,
# the model is as sure as it is right. Below the line it is too sure, above it too modest. A temperature is fitted on
# val to mend that, and worked into the weights: one number by which all logits are divided. It changes no answer.
# Above 1 it makes the model less sure, below 1 surer. Where val is small, or has wrong labels, as here, it need not be
# better on test. Small dots stand for few answers, and their intervals are wide.

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
# Where a model is sure and wrong, there is something to learn: a picture that is odd, a class that is mixed up, or a
# label that is wrong. `Predictor` gives the very probabilities that the run measured. Below each picture, Grad-CAM
# lights up what spoke for the answer.


# %%
def show_pictures(pictures, titles, columns=6, colours=None):
    """Draws pictures in rows, as a JPEG, which photos take little room in."""
    rows = -(-len(pictures) // columns)
    height = 1.5 * pictures[0].shape[0] / pictures[0].shape[1] + 0.4
    size = (1.5 * columns, height * rows)
    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    for each in axes.ravel():
        each.axis("off")
    colours = colours or ["0.2"] * len(titles)
    for each, picture, title, colour in zip(axes.ravel(), pictures, titles, colours, strict=False):
        each.imshow(picture)
        each.set_title(title, fontsize=9, color=colour)
    content = io.BytesIO()
    figure.savefig(content, format="jpeg", dpi=72)
    plt.close(figure)
    display(Image(content.getvalue()))


model = load_model(finished.trained)
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
# ## A medical task: few are sick
#
# **The pictures below are simulated.** They look like blood smears under a microscope, in some of which a cell has a
# parasite, a purple ring; purple dots outside of cells are platelets and harmless. No real medical pictures come with
# any package of this project, and figures from drawings say nothing about any disease. For real pictures, set
# `medical_data` to a folder with two folders of pictures, such as `healthy/` and `infected/`, or to a CSV of
# `path,label`. If a patient has several pictures, give the table a `split` column that keeps each patient on one side:
# no program can know that.

# %%
if medical_data is None:
    write_smears(work / "smears", num_smears, prevalence)
place = locate(medical_data) if medical_data else str(work / "smears")
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
# ## What accuracy hides
#
# Larger val and test splits than usual, so that there are enough of the infected in each to measure anything.

# %%
settings = {"data": place, "resize": "pad", "val_fraction": 0.3, "test_fraction": 0.3}
examples, finished = run("medical", **settings)

# %% [markdown]
# Compare the accuracy on test with that of the last line, *majority*: the program that calls everyone healthy. It
# finds nobody, and its accuracy looks fine. So ask two questions instead:
#
# - **sensitivity**: of the infected, how many are found?
# - **specificity**: of the healthy, how many are left alone?

# %%
metrics = finished.metrics
predictions = pd.read_csv(finished.folder / "predictions.csv")
scores, truths = {}, {}
for split, rows in predictions.groupby("split"):
    scores[split] = rows[[f"probability_{infected}"]].to_numpy(np.float32)
    truths[split] = (rows[["label"]] == infected).to_numpy(np.float32)

at_half = measure_threshold(truths["test"], scores["test"], 0.5)
bars = {
    "accuracy": metrics["test"]["accuracy"],
    "accuracy of calling all healthy": metrics["baseline"]["majority"],
    "sensitivity": at_half["sensitivity"],
    "specificity": at_half["specificity"],
}
figure, axes = plt.subplots(figsize=(7, 2), layout="constrained")
colours = ["#5b7c99", "0.8", "#d1603d", "#5b7c99"]
axes.bar_label(axes.barh(list(bars), list(bars.values()), color=colours), fmt=" {:.1%}")
axes.invert_yaxis()
axes.set(xlim=(0, 1.15), xlabel="share of the test pictures; infected from a probability of 0.5 on")
plt.show()

# %% [markdown]
# ## Where to put the threshold
#
# An answer is a probability, and nobody says that 0.5 is the place to cut. The ROC curve shows every threshold at
# once: how many of the infected are found (up) against how many of the healthy are called infected (right). The dot is
# the threshold that the run chose, on val: where sensitivity and specificity together are largest (Youden, 1950).

# %%
curves = list(class_curves(truths["test"], scores["test"], [healthy, infected], BINARY).values())
point = metrics["operating_point"]
chosen = 1 - point["test"]["specificity"], point["test"]["sensitivity"]
draw_roc(curves, chosen)

# %%
draw_thresholds(curves[0], point["threshold"], healthy)

# %% [markdown]
# Which threshold is right depends on what an error costs. To screen, a missed infection is worse than a false alarm:
# ask for 95 % sensitivity and take what specificity is left. The threshold is chosen on val and measured on test, with
# 95 % intervals, which are wide where few are infected. The last columns are about 1,000 people of whom as many are
# infected as here.

# %%
of_infected = scores["val"][truths["val"] == 1]
candidates = {
    "one half": 0.5,
    "largest together on val": point["threshold"],
    "95 % sensitivity on val": float(np.quantile(of_infected, 0.05, method="lower")),
}
share = truths["test"].mean()
rows = {}
for name, threshold in candidates.items():
    found = measure_threshold(truths["test"], scores["test"], threshold)
    rows[name] = {
        "threshold": threshold,
        "sensitivity": "{:.0%} ({:.0%} to {:.0%})".format(found["sensitivity"], *found["sensitivity_ci95"]),
        "specificity": "{:.0%} ({:.0%} to {:.0%})".format(found["specificity"], *found["specificity_ci95"]),
        "found of 1,000": round(1000 * share * found["sensitivity"]),
        "missed": round(1000 * share * (1 - found["sensitivity"])),
        "false alarms": round(1000 * (1 - share) * (1 - found["specificity"])),
    }
pd.DataFrame(rows).T

# %% [markdown]
# ## Class weights
#
# `--class-weights` makes each class count equally while learning, however few it has. That moves probabilities up for
# the rare class. Does the network also tell them apart better? The area under the ROC curve does not depend on a
# threshold, so it says.

# %%
_, weighted = run("weighted", class_weights=True, **settings)
both = {"plain": metrics, "class weights": weighted.metrics}
rows = {}
for name, each in both.items():
    test, at_chosen = each["test"], each["operating_point"]["test"]
    rows[name] = {
        "accuracy": test["accuracy"],
        "sensitivity at 0.5": test["per_class"][infected]["recall"],
        "specificity at 0.5": test["per_class"][healthy]["recall"],
        "chosen threshold": each["operating_point"]["threshold"],
        "sensitivity there": at_chosen["sensitivity"],
        "specificity there": at_chosen["specificity"],
        "area under ROC": test["roc_auc"],
        "calibration error": test["ece"],
    }
pd.DataFrame(rows)

# %% [markdown]
# ## What it looked at
#
# A model can be right for a wrong reason: a ruler, a stamp, the edge of the glass. Grad-CAM shows what speaks for
# *infected*: first in the three infected that it is surest of, then in the three that it is furthest from. See whether
# the light is on the ring. Where nothing speaks for it, the map is empty. It is coarse: the last layer sees a picture
# as a few fields.

# %%
order = np.argsort(np.where(truths["test"] == 1, scores["test"], np.nan)[:, 0])[: int(truths["test"].sum())]
chosen = [*order[::-1][:3], *order[:3]]
pixels = examples.inputs[0][examples.splits["test"][chosen]]
heatmaps = grad_cam(load_model(finished.trained), pixels, np.ones(len(chosen), int))
show_pictures(
    [*pixels, *(overlay(*pair) for pair in zip(pixels, heatmaps, strict=True))],
    [f"{infected}: {scores['test'][row, 0]:.1%}" for row in chosen] + [""] * len(chosen),
    columns=len(chosen),
)

# %% [markdown]
# ## Try next
#
# - `prevalence = 0.02`: the intervals grow, and the accuracy of calling everyone healthy as well.
# - `mislabelled = 0.2`: does the model still find them?
# - Train with `resize="crop"`, and compare the sensitivity.
# - `python train.py --data photos` leaves the page in `runs/`; open `report.html` in a browser.
