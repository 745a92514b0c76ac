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
# # 9. Boxes
#
# If the data has boxes, `train.py` trains a detector: it finds objects. The pictures here are canvases with the
# bundled animals.

# %% tags=["parameters"]
data = "canvases"  # or your own: a COCO .json, a YOLO or Pascal VOC folder, a .csv of path,label,x1,y1,x2,y2
pictures = 200  # approximate number of pictures to use; None for all
image_size = 320  # height and width of the network's input, pixels; larger for small objects
head_epochs = 15  # most epochs of the head

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # first: hides the start-up messages of TensorFlow

from pathlib import Path

import numpy as np
import pandas as pd

from app.config import TrainConfig
from data.sources import load_source
from headstart import train
from inference.drawing import COLOURS, Drawn, draw_boxes, open_upright
from notebooks.beginning import locate, make_work_folder, quietly, show_pictures, shown_without

pd.options.display.float_format = "{:.3g}".format
console.width = 100
work = make_work_folder()

# %% [markdown]
# ## The boxes
#
# The source lists pictures and their boxes, in pixels of the upright picture. Boxes that cross the border are clipped.
# Boxes without area, outside the picture or of an unknown class are set aside, each with its reason.

# %%
source = load_source(locate(data), work / "cache")
class_names = sorted({label for example in source.examples for label in example.labels})
print(f"{len(source.examples)} pictures, {len(source.set_aside)} boxes or files set aside")


def show(rows: list[tuple[Path, list[Drawn]]]) -> None:
    """Shows pictures with boxes in a row."""
    drawn = [np.asarray(draw_boxes(open_upright(path), boxes)) for path, boxes in rows]
    show_pictures(drawn, [path.name for path, _ in rows], columns=len(rows), width=4.6)


def true_boxes(example) -> list[Drawn]:
    named = zip(example.boxes.labels, example.boxes.corners, strict=True)
    return [
        Drawn(np.array(corners), COLOURS[class_names.index(label) % len(COLOURS)], label) for label, corners in named
    ]


show([(example.path, true_boxes(example)) for example in source.examples[:3]])

# %% [markdown]
# ## Training
#
# The frozen backbone is computed once for four augmented views of each picture and its boxes. Its last feature maps,
# at strides of 8, 16 and 32 pixels, are cached. A feature pyramid and a head are trained on them. For each cell, the
# head predicts the probability that it is the centre of an object (CenterNet), and the distances to the four sides of
# its box (FCOS, TTFNet), each as a distribution (Generalized Focal Loss).
#
# The finished model takes the mean of its outputs for a picture and its mirror image. Neighbouring cells of one object
# give nearly the same box: of one class, the most confident one is kept, moved to their mean position.

# %%
config = TrainConfig.of(
    data=locate(data),
    max_pictures=pictures,
    image_size=image_size,
    head_epochs=head_epochs,
    cache_dir=work / "cache",
    output=work / "run",
)
with shown_without(work):
    run = train(config)

# %% [markdown]
# ## Average precision
#
# A box is right if its IoU with a true box of its class is at least 0.5, and no more confident box has found that one.
# AP50 is the area under the precision-recall curve of these boxes. AP is the mean of such areas for IoU from 0.5 to
# 0.95. The model shows a box if its probability is above the threshold of its class, which was chosen on val.

# %%
measured = run.metrics["test"]
table = pd.DataFrame(measured["per_class"]).T
print(f"AP50 {measured['ap50']:.3f}, AP {measured['ap']:.3f} on {measured['n']} pictures")
table.assign(threshold=pd.Series(run.trained.task.thresholds_of(run.trained.class_names)))

# %% [markdown]
# ## Predict
#
# `run.predict` gives a row for each box, as `predict.py RUN photos --csv boxes.csv --draw folder` does.

# %%
predictions = pd.read_csv(work / "run" / "predictions.csv", dtype={"path": str})
asked = [source.root / path for path in predictions.loc[predictions["split"] == "test", "path"].unique()[:3]]
with quietly():
    answers = run.predict(asked)
answers.drop(columns=["reason"]).assign(path=[Path(path).name for path in answers["path"]])

# %% [markdown]
# An object may get boxes of two classes: that on the right of `0009.png` is a bird and a horse, and the second box
# covers the first.

# %%
rows = []
for path in asked:
    of_picture = answers[(answers["path"] == str(path)) & (answers["status"] == "found")]
    boxes = [
        Drawn(
            row[["x1", "y1", "x2", "y2"]].to_numpy(float),
            COLOURS[class_names.index(row["predicted"]) % len(COLOURS)],
            f"{row['predicted']} {row['probability']:.0%}",
        )
        for _, row in of_picture.iterrows()
    ]
    rows.append((path, boxes))
show(rows)
