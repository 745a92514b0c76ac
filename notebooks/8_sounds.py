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
# # 8. Sounds
#
# Recordings are classified in the same way, with the encoder of Whisper. The recordings here are computed notes of six
# instruments; the model predicts the instrument. That is easy, and only shows the steps. Spoken words of speakers that
# were not in training are harder: see [the benchmarks](../benchmarks/README.md).

# %% tags=["parameters"]
data = "notes"  # put your own folder of CLASS/recording.wav here (FLAC, OGG, MP3, AIFF), or a .csv (one label each)
recordings = 240  # most recordings to use
clip_seconds = 1  # seconds of each that are used, around its middle
trainable_layers = 0  # last blocks of the encoder to train; 2 takes minutes
seed = 0  # another seed gives another split

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import Audio

from app.config import TrainConfig
from app.spectrogram import RATE
from app.terminal import import_tensorflow
from data.sounds.mel import heard_levels, heard_samples
from headstart import train
from notebooks.beginning import locate, make_work_folder, quietly
from training.inputs import load_inputs

import_tensorflow()
plt.rcParams["figure.dpi"] = 72
work = make_work_folder()

# %% [markdown]
# ## The network's input
#
# Every recording is converted to one channel of 16,000 samples a second, and then to a spectrogram: the strength of 80
# frequency bands, a hundred times a second. All inputs have the same length; the padding of shorter recordings is
# ignored.

# %%
config = TrainConfig.of(
    data=locate(data),
    max_pictures=recordings,
    clip_seconds=clip_seconds,
    trainable_layers=trainable_layers,
    seed=seed,
    cache_dir=work / "cache",
)
with quietly():
    inputs = load_inputs(config)
examples = inputs.data
classes = [example.labels[0] for example in examples.examples]
firsts = {name: examples.inputs[0][classes.index(name)] for name in examples.class_names}
columns = min(len(firsts), 6)
rows = -(-len(firsts) // columns)
figure, axes = plt.subplots(rows, columns, figsize=(10, 2.4 * rows), sharey=True, squeeze=False, layout="constrained")
for axis in axes.flat[len(firsts) :]:
    axis.axis("off")
for axis, (name, sound) in zip(axes.flat, firsts.items(), strict=False):
    axis.imshow(heard_levels(sound).T, origin="lower", aspect="auto", cmap="magma")
    axis.set(title=name)
figure.supylabel("band")
figure.supxlabel("hundredths of a second")
plt.show()

# %%
sound = firsts[examples.class_names[0]]
Audio(sound[: heard_samples(sound)], rate=RATE)

# %% [markdown]
# ## Training
#
# Whisper was trained to transcribe speech, on 680,000 hours of recordings. The features of its encoder are useful for
# other questions, too: a logistic regression is solved on their mean over time. The baseline is a logistic regression
# on how strong and how varied each band is.

# %%
with quietly():
    run = train(config.replace(output=work / "run"))
metrics, name = run.metrics, "Whisper" if trainable_layers else "Whisper, frozen"
pd.Series({name: metrics["test"]["accuracy"], **metrics["baseline"]})

# %% [markdown]
# ## Predict
#
# `run.predict` takes files and folders.

# %%
measured = pd.read_csv(work / "run" / "predictions.csv").query("split == 'test'")
asked = [examples.root / path for path in measured["path"][::8]]
answers = run.predict(asked)[["path", "predicted", "probability"]]
answers.assign(path=[path.parent.name + "/" + path.name for path in asked]).round(3)

# %% [markdown]
# ## Try next
#
# - Your own recordings, a folder for each class. If several are of one speaker, machine or place, name it in the
#   column `group` of a `.csv`. Each group then stays in one split, so that the model is measured on new voices.
# - `trainable_layers = 2`: the last two blocks of the encoder are trained, too.
# - The report shows the most confident mistakes with their spectrograms, a player, and the moments that decided.
# - `python export.py RUN` writes files that take samples.
# - `python predict.py --backbone whisper_tiny_en talk.wav` transcribes speech, with times, without training.
