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
# The same engine hears recordings: the encoder of Whisper, its frozen part computed once, a small head, an honest
# measurement. The recordings here are notes of six instruments that are computed on the spot, and the question is which
# instrument plays. That is easy, and there to hear and see what happens; spoken words of people who were never heard
# before are not: see the README.
#
# To open it: `pip install -r requirements-dev.txt`, then `jupyter lab notebooks`.

# %% tags=["parameters"]
data = "notes"  # put your own folder of CLASS/recording.wav here (or FLAC, OGG, MP3, AIFF), or a .csv of path,label
recordings = 240  # most recordings to use
clip_seconds = 1  # what is heard of each, around its middle
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
work = make_work_folder()  # gone when the notebook is closed

# %% [markdown]
# ## What the network gets
#
# Every recording becomes 16,000 samples a second of one channel, whatever it was, and then a spectrogram: how strong 80
# bands of pitch are, a hundred times a second. The window is the same for all; shorter recordings are not heard beyond
# their end.

# %%
config = TrainConfig.of(
    data=locate(data),
    max_pictures=recordings,
    clip_seconds=clip_seconds,
    trainable_layers=0,
    seed=seed,
    cache_dir=work / "cache",
)
with quietly():
    inputs = load_inputs(config)
examples = inputs.data
classes = [example.labels[0] for example in examples.examples]
firsts = {name: examples.inputs[0][classes.index(name)] for name in examples.class_names}
figure, axes = plt.subplots(1, len(firsts), figsize=(10, 2.4), sharey=True, squeeze=False)
for axis, (name, sound) in zip(axes[0], firsts.items(), strict=True):
    axis.imshow(heard_levels(sound).T, origin="lower", aspect="auto", cmap="magma")
    axis.set(title=name)
axes[0][0].set_ylabel("band")
figure.supxlabel("hundredths of a second", y=-0.05)
plt.show()

# %%
sound = firsts[examples.class_names[0]]
Audio(sound[: heard_samples(sound)], rate=RATE)

# %% [markdown]
# ## Training
#
# Whisper was trained to write down speech, in 680,000 hours of recordings. What its encoder makes of a sound is worth
# something for other questions as well: a regression is solved on the mean over time. What is there to beat is a
# regression on how strong and how varied each band is.

# %%
with quietly():
    run = train(config.replace(output=work / "run"))
metrics = run.metrics
pd.Series({"Whisper, frozen": metrics["test"]["accuracy"], **metrics["baseline"]})

# %% [markdown]
# ## Asking
#
# `run.predict` takes files and folders.

# %%
measured = pd.read_csv(work / "run" / "predictions.csv").query("split == 'test'")
asked = [examples.root / path for path in measured["path"][::8]]
answers = run.predict(asked)[["path", "predicted", "probability"]]
answers.assign(path=[path.parent.name + "/" + path.name for path in asked]).round(3)

# %% [markdown]
# ## What to try
#
# - Your own recordings, a folder for each class. Where several are of one speaker, machine or place, name it in the
#   column `group` of a `.csv`: what was learnt from one voice says little about the next, and the split then keeps each
#   on one side.
# - `trainable_layers = 2`: the last two blocks of the encoder learn as well.
# - The report shows the most confident mistakes with their spectrograms, a player, and the moments that decided;
#   `python demo.py RUN` has a page that takes a recording; `python export.py RUN` writes files that take samples.
# - `views = 3` learns from varied recordings as well: begin, noise and loudness.
# - `python predict.py --backbone whisper_tiny_en talk.wav` needs no training: it writes down what is said, with times.
