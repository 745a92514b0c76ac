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
# # 2. Your own photos
#
# Before training, every picture is read, decoded, compared with the others, and assigned to one of three splits. This
# notebook shows each step, on a small folder that it writes itself and damages on purpose.

# %% tags=["parameters"]
data = None  # put your own folder here, or a .csv file (one label each); None writes a folder of animals
image_size = 96  # height and width of the network's input, pixels
resize = "crop"  # how a picture becomes a square: "crop", "pad" or "stretch"
val_fraction = 0.2  # share of the pictures for choosing
test_fraction = 0.2  # share of the pictures for the final measurement
seed = 0  # another seed gives another split
pictures = 90  # pictures in the folder that is written here

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import contextlib
import io
import os
import shutil
from pathlib import Path

import absl.logging
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from PIL import Image, ImageOps

from app.config import TrainConfig
from app.terminal import import_tensorflow
from data.images.decode import read_picture
from data.images.look_alikes import compared_values
from data.near_duplicates import group_near_duplicates
from data.sources import SPLITS, load_source
from inference.drawing import open_upright
from notebooks.beginning import locate, make_work_folder, quietly, some_pictures
from training.inputs import load_inputs

import_tensorflow()
plt.rcParams["figure.dpi"] = 72
work = make_work_folder()

# %% [markdown]
# ## A folder of classes
#
# One folder per class: its name is the label, and the files in it are the pictures, such as `photos/cat/01.jpg` and
# `photos/dog/01.jpg`.

# %%
photos = work / "photos"
colours = {"cat": "tan", "elephant": "slategray", "horse": "sienna"}
animals = pd.read_csv(some_pictures("animals", pictures * 10 // len(colours), work))  # of ten classes
for label, colour in colours.items():
    (photos / label).mkdir(parents=True)
    for number, path in enumerate(animals["path"][animals["label"] == label]):
        silhouette = Image.open(path).convert("L").resize((240, 240), Image.Resampling.BICUBIC)
        drawn = ImageOps.colorize(silhouette, black=colour, white="ivory")
        drawn.save(photos / label / f"{number:02d}.{'png' if number % 3 == 0 else 'jpg'}")
print("\n".join(f"{folder.name}: {len(list(folder.iterdir()))} files" for folder in sorted(photos.iterdir())))

# %% [markdown]
# Real folders have damaged files. We make some, as downloads, phones and copying do.

# %%
cat, horse = photos / "cat", photos / "horse"
content = (horse / "01.jpg").read_bytes()
(horse / "cut short.jpg").write_bytes(content[: len(content) // 2])  # a download that was interrupted
(horse / "nothing.jpg").write_bytes(b"")
(cat / "page.jpg").write_text("<html>404 Not Found</html>")  # what a server sent instead
damaged = bytearray((cat / "03.png").read_bytes())
damaged[len(damaged) // 2] ^= 0xFF  # one wrong byte, as from a bad disk
(cat / "damaged.png").write_bytes(damaged)

shutil.copy(cat / "01.jpg", cat / "01 (copy).jpg")  # the same file twice
original = Image.open(horse / "04.jpg")
original.resize((150, 150)).save(horse / "04 small.jpg", quality=50)  # the same picture in other bytes
darker = original.crop((8, 4, 236, 236)).point(lambda value: value * 0.8)
darker.save(horse / "04 edited.png")

exif = Image.Exif()
exif[0x0112] = 6  # the camera was held upright: viewers have to rotate the picture
(photos / "elephant" / "phone.jpg").unlink(missing_ok=True)
Image.open(photos / "elephant" / "02.jpg").rotate(90).save(photos / "elephant" / "phone.jpg", exif=exif)
(photos / "elephant" / "02.jpg").unlink()

# %% [markdown]
# ## Read, check and split
#
# `load_inputs` is the first step of `train.py` and prints the same lines. What it cannot read is set aside with a
# reason, and the rest is used; a run writes the list to `quarantine.csv`. Your folder is never changed.

# %%
config = TrainConfig.of(
    data=locate(data) if data else str(photos),
    image_size=image_size,
    resize=resize,
    val_fraction=val_fraction,
    test_fraction=test_fraction,
    seed=seed,
    cache_dir=work / "cache",
)
found = load_inputs(config).data
pd.DataFrame([(found.display_path(item.path), item.reason) for item in found.quarantine], columns=["file", "reason"])

# %% [markdown]
# ## The network's input
#
# A phone stores a picture as the sensor was held, and writes into the file (EXIF) how to rotate it. Viewers rotate it.
# Many programs do not, and train on animals that lie on their side.

# %%
sideways = next(
    (each.path for each in found.examples if Image.open(each.path).getexif().get(0x0112, 1) != 1),
    found.examples[0].path,
)
_, axes = plt.subplots(1, 2, figsize=(5, 2.6))
axes[0].imshow(Image.open(sideways).convert("RGB"))
axes[1].imshow(read_picture(sideways, image_size, resize))
for axis, title in zip(axes, ("stored", "what the network gets"), strict=True):
    axis.set(title=title, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# The input is a square. `crop` keeps the middle, `pad` adds black bars, `stretch` changes the proportions. If
# something important may be at the border, as in medical pictures, do not crop.

# %%
wide = work / "wide.png"
row = [open_upright(each.path).resize((240, 240)) for each in found.examples[:2]]
Image.fromarray(np.hstack(row)).save(wide)
_, axes = plt.subplots(1, 4, figsize=(9, 2.4), width_ratios=[2, 1, 1, 1])
axes[0].imshow(Image.open(wide))
axes[0].set(title="the file", xticks=[], yticks=[])
for axis, how in zip(axes[1:], ("crop", "pad", "stretch"), strict=True):
    axis.imshow(read_picture(wide, image_size, how))
    axis.set(title=how, xticks=[], yticks=[])
plt.show()

# %% [markdown]
# ## Duplicates stay in one split
#
# If a picture is in train and its copy in test, the test measures memory, and the accuracy is too high. Copies have
# the same bytes. Near-duplicates (another size, crop or compression, or two shots of one object) are found by
# comparing small grey versions of the pictures. Each group below is in one split.

# %%
split_of = {int(position): split for split in SPLITS for position in found.splits[split]}
numbers = group_near_duplicates(found.signatures, compared_values).numbers
groups = [np.flatnonzero(numbers == number) for number in np.unique(numbers)]
together = sorted((group for group in groups if len(group) > 1), key=len, reverse=True)[:3]
for group in together:
    shown = group[:8]
    _, axes = plt.subplots(1, len(shown), figsize=(1.6 * len(shown), 1.9), squeeze=False)
    for axis, position in zip(axes[0], shown, strict=True):
        axis.imshow(found.inputs[0][position])
        name = found.examples[position].path.name
        axis.set_title(f"{name}\n{split_of.get(int(position), 'set aside')}", fontsize=9)
        axis.axis("off")
    plt.show()
    if len(group) > len(shown):
        print(f"and {len(group) - len(shown)} more")

# %% [markdown]
# ## The splits
#
# Each split gets about the same share of every class; groups stay together.

# %%
rows = [(found.examples[position].labels[0], split) for position, split in split_of.items()]
pd.crosstab(*zip(*rows, strict=True), rownames=["class"], colnames=["split"])[list(SPLITS)]

# %%
figure, axes = plt.subplots(len(SPLITS), 8, figsize=(9, 3.6))
for row, split in zip(axes, SPLITS, strict=True):
    some = np.random.default_rng(seed).permutation(found.splits[split])[: len(row)]
    for axis in row:
        axis.axis("off")
    for axis, position in zip(row, some, strict=False):
        axis.imshow(found.inputs[0][position])
    row[0].set_title(split, loc="left")
figure.tight_layout()
plt.show()

# %% [markdown]
# The split of a picture depends on its content and the seed, not on its name or its place in the folder. So a folder
# can grow: one new picture moves only a few pictures of its class to another split, or none.


# %%
def places(folder: Path) -> dict[str, str]:
    """Returns the split of each picture of a folder, by its path."""
    with quietly():
        known = load_inputs(config.replace(data=str(folder))).data
    return {known.display_path(known.examples[at].path): split for split in SPLITS for at in known.splits[split]}


before = places(photos)
newcomer = np.random.default_rng(seed).integers(0, 256, (64, 64, 3), np.uint8)
Image.fromarray(newcomer).save(cat / "newcomer.png")
after = places(photos)
moved = [(path, split, after[path]) for path, split in before.items() if after[path] != split]
pd.DataFrame(moved, columns=["moved", "from", "to"])

# %% [markdown]
# If you have your own splits, put the folders `train`, `val` and `test` above the classes; they are kept.
#
# ## A CSV file
#
# If the labels are in a table, name its columns `path,label`, and `split` if you have splits. Paths are relative to
# the file. Several labels joined by `|` make the task multi-label.

# %%
files = load_source(str(photos), work).examples
rows = [(file.path.relative_to(photos), file.labels[0], "") for file in files]
csv = pd.DataFrame(rows, columns=["path", "label", "split"])
csv.loc[csv.index % 5 == 1, "split"] = "test"  # our own test split; the other rows have none
csv.to_csv(photos / "labels.csv", index=False)
from_csv = load_inputs(config.replace(data=str(photos / "labels.csv"))).data
csv.head(6)

# %% [markdown]
# Rows without a split are divided between train and val. One more file is set aside than before: its copy is in our
# test split, and to train on it would be a leak.
#
# ## TensorFlow Datasets
#
# `tfds:NAME` is a data set of TensorFlow Datasets, such as `tfds:tf_flowers`, which is downloaded. To stay offline, we
# prepare a tiny one here. Its pictures are written to files once; then all is as above.

# %%
os.environ["TFDS_DATA_DIR"] = str(work / "tfds")
absl.logging.set_verbosity(absl.logging.ERROR)
positions = np.concatenate(list(found.splits.values()))
numbers = [found.class_names.index(found.examples[position].labels[0]) for position in positions]
examples = [{"image": found.inputs[0][at], "label": number} for at, number in zip(positions, numbers, strict=True)]
with quietly(), contextlib.redirect_stderr(io.StringIO()):  # hides progress bars
    import tensorflow_datasets as tfds

    features = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=found.class_names),
    }
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny_animals",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": list(enumerate(examples))},
        data_dir=work / "tfds",
    )
from_tfds = load_inputs(config.replace(data="tfds:tiny_animals")).data
{split: len(positions) for split, positions in from_tfds.splits.items()}

# %% [markdown]
# ## Try next
#
# - Set `data` to your own folder, and look at the list of files that were set aside.
# - Look at the groups: several shots of one scene should be in one group. If they look too different, give them a
#   split with folders or a CSV.
# - Then train: `python train.py --data photos`. `--strict` ends the run if any picture has to be set aside,
#   `--outside` follows links out of the folder.
