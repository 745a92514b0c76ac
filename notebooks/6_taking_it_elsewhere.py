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
# # 6. Taking it elsewhere
#
# A trained model is used on new pictures, in another program, or on a phone. This notebook predicts from Python,
# exports the model to three formats, and runs each with its own runtime. At the end it trains on several devices.

# %% tags=["parameters"]
data = "animals"  # bundled silhouettes; or your own: a folder of CLASS/picture files, a .csv file or "tfds:NAME"
pictures = 1000  # approximate number of pictures to use; None for all
new_pictures = 5  # pictures that are held out, to predict later
image_size = 128  # height and width of the network's input, pixels
head_epochs = 10  # most epochs of the head
devices = 2  # devices for the training at the end: GPUs, or parts of the CPU; 1 leaves it out
workers = 2  # processes that then train one model together; 0 leaves it out

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/
from app.terminal import console, import_tensorflow

import_tensorflow()  # first: hides the start-up messages of TensorFlow

import json
import os
import subprocess
import time
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import onnxruntime
import pandas as pd
import tensorflow as tf

from app.config import TrainConfig
from data.images.decode import read_picture
from exports.litert import open_litert
from headstart import train
from inference.load import load_model
from inference.predictor import Predictor
from notebooks.beginning import ROOT, make_work_folder, quietly, shown_without, some_pictures

# %matplotlib inline
plt.rcParams["figure.dpi"] = 80
pd.options.display.float_format = "{:.3g}".format
console.width = 100
work = make_work_folder()

# %% [markdown]
# ## A model
#
# A head on a frozen backbone, trained on a part of the pictures. A few pictures are held out: the model never sees
# them.

# %%
some = some_pictures(data, pictures, work)
table = pd.read_csv(some, dtype=str, keep_default_na=False).sample(frac=1, random_state=0)
kept_back, rest = table[:new_pictures], table[new_pictures:]
rest.to_csv(some, index=False)

config = TrainConfig.of(
    data=str(some),
    outside=True,  # the pictures are not in the folder of the CSV file
    image_size=image_size,
    head_epochs=head_epochs,
    trainable_layers=0,
    cache_dir=work / "cache",
    output=work / "model",
)
with shown_without(work):
    run = train(config)

# %% [markdown]
# ## Predict from Python
#
# `Run("runs/NAME")` opens the folder of a run; `train` returned one as well. Its `predict` takes files, folders and
# patterns, as `predict.py` does. It reads ahead in threads, and needs no more memory for thousands than for a few. A
# file that cannot be read gets a row with the reason.

# %%
(work / "broken.jpg").write_bytes(b"no picture")
with quietly():
    answers = run.predict([*kept_back["path"], work / "broken.jpg"])
answers.iloc[:, :5].assign(path=[Path(path).name for path in answers["path"]])

# %% [markdown]
# The table also has the probability of each class. `read_picture` reads a file as in training: upright, RGB, a square.

# %%
classes = run.trained.class_names
probabilities = answers.set_index("path").loc[kept_back["path"], [f"probability_{name}" for name in classes]].to_numpy()
size, resize = run.trained.config.data.image_size, run.trained.config.data.resize
pixels = np.stack([read_picture(path, size, resize) for path in kept_back["path"]])

figure, axes = plt.subplots(2, len(pixels), figsize=(2.1 * len(pixels), 3.6), layout="constrained")
for column, picture, label, row in zip(axes.T, pixels, kept_back["label"], probabilities, strict=True):
    column[0].imshow(picture)
    column[0].set_title(f"label: {label}", fontsize=9)
    column[0].axis("off")
    best = np.argsort(row)[-3:]
    column[1].barh([classes[index] for index in best], row[best], color="#5b7c99")
    column[1].set(xlim=(0, 1), xticks=[0, 1])
    column[1].tick_params(labelsize=8)
plt.show()

# %% [markdown]
# ## Export
#
# `export` does what `export.py` does. Each file includes preprocessing and calibration: pictures in [0, 255] go in,
# probabilities come out. Each file is then run by its own runtime on pictures that the run was measured on, and is
# kept only if it answers as the model does.

# %%
with shown_without(work):
    folders = run.export(cache_dir=work / "cache")

# %% [markdown]
# `parity.json` has the result of that comparison:

# %%
parities = {name: json.loads((place / "parity.json").read_text())["routes"] for name, place in folders.items()}
rows = {f"{name}: {route}": parity for name, routes in parities.items() for route, parity in routes.items()}
pd.DataFrame(rows).T[["n", "largest_difference", "same_labels"]]

# %% [markdown]
# Beside `model.tflite` there are smaller LiteRT files: 16-bit numbers, 8-bit weights, and all in 8 bits. Rounding
# changes their probabilities, and how many labels change depends on the model. A file with too many changed labels is
# left out.

# %% [markdown]
# Each folder also has `labels.txt`, and a `MODEL_CARD.md` for whoever gets the file. Its headings:

# %%
card = (folders["onnx"] / "MODEL_CARD.md").read_text().splitlines()
print("\n".join(line for line in card if line.startswith("#")))

# %% [markdown]
# ## ONNX, with ONNX Runtime
#
# The next cell predicts without the project, TensorFlow or Keras. With code that reads pictures as the model card
# describes, it is a whole program.

# %%
session = onnxruntime.InferenceSession(folders["onnx"] / "model.onnx", providers=["CPUExecutionProvider"])
labels = (folders["onnx"] / "labels.txt").read_text().splitlines()
(found,) = session.run(["probabilities"], {"pictures": pixels.astype(np.float32)})
print("answers:", [labels[index] for index in found.argmax(axis=1)])
difference = np.abs(found - probabilities).max()
print("largest difference from the model:", f"{difference:.1g}")

# %% [markdown]
# ## SavedModel, from the bytes of a file
#
# The signature `serving_default` takes the bytes of a picture file of any size; decoding and rotating are included. So
# a program that serves the model, such as TensorFlow Serving, needs no preprocessing of its own.

# %%
serve = tf.saved_model.load(str(folders["saved_model"])).signatures["serving_default"]
content = [Path(path).read_bytes() for path in kept_back["path"]]
served = serve(encoded=tf.constant(content))
print("answers:", [label.decode() for label in served["labels"].numpy()])
difference = np.abs(served["probabilities"].numpy() - probabilities).max()
print("largest difference from the model:", f"{difference:.1g}")

# %% [markdown]
# ## Size and speed
#
# The size of each file, and the time for one picture on the machine that ran this notebook. Times differ on other
# machines, and on a busy one.

# %%
answering = {
    "model.keras": (run.folder / "model.keras", Predictor(load_model(run.trained), run.trained.cut)),
    "model.onnx": (folders["onnx"] / "model.onnx", lambda each: session.run(None, {"pictures": each})),
}
for name in parities["litert"]:
    runner = open_litert(folders["litert"] / name)
    answering[name] = (folders["litert"] / name, lambda each, runner=runner: runner(pictures=each))
one = pixels[:1].astype(np.float32)
megabytes, milliseconds = {}, {}
for name, (path, answer) in answering.items():
    answer(one)  # the first takes longer
    times = []
    for _ in range(15):
        started = time.perf_counter()
        answer(one)
        times.append(time.perf_counter() - started)
    megabytes[name], milliseconds[name] = path.stat().st_size / 2**20, 1000 * float(np.median(times))
figure, axes = plt.subplots(1, 2, figsize=(9, 2), layout="constrained", sharey=True)
for each, values, title in zip(axes, (megabytes, milliseconds), ("MiB", "milliseconds"), strict=True):
    each.bar_label(each.barh(list(values), list(values.values()), color="#5b7c99"), fmt=" %.1f")
    each.set(xlabel=title, xlim=(0, 1.2 * max(values.values())))
axes[0].invert_yaxis()
plt.show()

# %% [markdown]
# ## Several devices
#
# The same command trains on several GPUs, or several machines. Without GPUs, `--devices 2` splits the CPU into two
# devices, to try it. Every device has the whole network and gets an equal part of each batch, and the gradients are
# summed. So the result is that of one device, except for rounding.
#
# The devices have to be chosen before TensorFlow is used. So each training is a process of its own, with the command
# that you would type.


# %%
def train_in_a_process(name, *command):
    """Runs a command, prints its main lines, and returns its history."""
    flags = ["--data", str(some), "--outside", "--image-size", "64"]
    flags += ["--head-epochs", "3", "--trainable-layers", "6", "--fine-tune-epochs", "2"]
    places = ["--output", str(work / name), "--cache-dir", str(work / "caches" / name)]
    done = subprocess.run(
        [sys.executable, *command, *flags, *places],
        cwd=ROOT,
        env={**os.environ, "FORCE_COLOR": ""},  # Jupyter asks for colours, as in a terminal
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    told = ("devices", "batch", "head", "fine-tune", "done", "error")
    print(f"$ python {' '.join(command)} --data ...")
    lines = [line for line in done.stdout.splitlines() if line.startswith(told)]
    print("\n".join(lines).replace(str(work), "..."), "\n")
    done.check_returncode()
    return pd.read_csv(work / name / "history.csv")


histories = {}
for number in sorted({1, devices}):
    name = "1 device" if number == 1 else f"{number} devices"
    histories[name] = train_in_a_process(f"devices_{number}", "train.py", "--devices", str(number))

# %% [markdown]
# `python -m devices.launch 2` starts two processes on this machine that train one model together, as two machines
# would. On real machines, each process gets `TF_CONFIG` instead; `examples/slurm.sh` does that under Slurm.

# %%
if workers:
    command = ("-m", "devices.launch", str(workers))
    histories[f"{workers} workers"] = train_in_a_process("workers", *command)

# %% [markdown]
# The losses, and their differences from one device. Sums in another order are rounded differently, and later steps
# build on these values.

# %%
first = histories["1 device"]
losses = first[["phase"]].copy()
for name, history in histories.items():
    losses[name] = history["loss"].map("{:.6f}".format)
    if history is not first:
        losses[f"{name}, difference"] = (history["loss"] - first["loss"]).map("{:.0e}".format)
losses.index += 1
losses.rename_axis("epoch")

# %%
figure, axes = plt.subplots(figsize=(6, 3), layout="constrained")
for number, (name, history) in enumerate(histories.items()):
    size = 13 - 4 * number
    axes.plot(losses.index, history["loss"], marker="o", ms=size, lw=size / 3, alpha=0.7, label=name)
axes.set(xlabel="epoch", ylabel="loss", xticks=losses.index)
axes.legend(frameon=False)
plt.show()

# %% [markdown]
# ## Try next
#
# - `python export.py runs/NAME --format onnx --require-accuracy 0.95` refuses to export a less accurate model.
# - `python evaluate.py runs/NAME --data new_photos` measures the model on new pictures with labels.
# - With `--precision auto`, GPUs and newer CPUs compute in 16 bits; the saved model is float32 all the same.
# - Larger batches, such as `--batch-size 128`, keep many devices busier. Learning rates that you do not set grow with
#   it.
