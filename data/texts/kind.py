"""Texts as a kind of input."""

import hashlib
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from app.config import TrainConfig
from data.arrays import row_of
from data.code_digest import code_digest
from data.encoding import encoding_of
from data.kinds import Baseline, Content, Explain, Inputs, Kind, ManyInputs, Reader, Shown
from data.texts.decode import decode_text, texts_of
from data.texts.look_alikes import HASHES, compared_values, signature
from data.texts.tokens import FILE, make_tokenizer, shortened, tokenizer_content

MOST_SHOWN = 600
"""Most characters of a text on a page."""
MANY_CUT = 0.1
"""Share of texts longer than the network's input at which a warning is given."""
_CODE = code_digest(decode_text, encoding_of, make_tokenizer, signature)


def _reader(config: TrainConfig, folder: Path | None = None) -> Reader:
    content, longest = tokenizer_content(config, folder), config.data.chosen_size
    tokenizer = make_tokenizer(content, longest)

    def read(text_content: bytes) -> Inputs:
        return (_numbers(decode_text(text_content)),)

    def read_with_signature(text_content: bytes) -> tuple[Inputs, np.ndarray]:
        text = decode_text(text_content)
        return (_numbers(text),), signature(text)

    def _numbers(text: str) -> np.ndarray:
        return np.array(tokenizer.encode(shortened(text, longest)).ids, np.int32)

    return Reader(
        {
            "max_tokens": longest,
            "tokenizer": hashlib.sha256(content).hexdigest(),
            "decoder": f"{_CODE}, tokenizers {metadata.version('tokenizers')}",
        },
        title=f"{longest} tokens",
        inputs=(np.dtype((np.int32, (longest,))),),
        signature=np.dtype((np.uint8, (HASHES // 8,))),
        read=read,
        read_with_signature=read_with_signature,
        ragged=True,
        files={FILE: content},
    )


def _cautions(lengths: Sequence[int], config: TrainConfig) -> list[str]:
    longest = config.data.chosen_size
    cut = sum(length >= longest for length in lengths)
    if cut < MANY_CUT * len(lengths):
        return []
    return [
        f"{cut:,} of {len(lengths):,} texts have {longest} tokens or more, and the network gets the first {longest} of "
        f"them: see --max-tokens."
    ]


def _show(inputs: Inputs, place: Content, title: str) -> Shown:
    (text,) = texts_of([place])
    return Shown(Markup('<p class="text" dir="auto">{}</p>').format(_beginning(text)), None)


def _beginning(text: str) -> str:
    return f"{text[:MOST_SHOWN]} …" if len(text) > MOST_SHOWN else text


def _explain(
    model: Any, reader: Reader, inputs: ManyInputs, contents: Sequence[Content], classes: np.ndarray
) -> list[Shown]:
    from data.texts.explain import marked, piece_scores, word_spans

    (tokens,), longest = inputs, reader.inputs[0].shape[0]
    tokenizer = make_tokenizer(reader.files[FILE], longest)

    def predict(batch: Sequence[np.ndarray]) -> np.ndarray:
        return np.asarray(model(list(batch), training=False))

    shown = []
    for row, (text, chosen) in enumerate(zip(texts_of(contents), classes, strict=True)):
        spans = tokenizer.encode(shortened(text, longest)).offsets
        words = word_spans(text[: max((end for _, end in spans), default=0)])
        scores = piece_scores(predict, reader, row_of(tokens, row), spans, words, int(chosen))
        shown.append(Shown(marked(_beginning(text), [each for each in scores if each[0][1] <= MOST_SHOWN]), None))
    return shown


def _texts(inputs: ManyInputs, contents: Sequence[Content], positions: np.ndarray) -> list[str]:
    return texts_of(contents[position] for position in positions)


def _tf_idf() -> Any:
    from sklearn.feature_extraction.text import TfidfVectorizer

    return TfidfVectorizer(sublinear_tf=True, ngram_range=(1, 2))


KIND = Kind(
    "text",
    noun="text",
    nouns="texts",
    endings=(".txt",),
    size_setting="max_tokens",
    reader=_reader,
    compared_values=compared_values,
    comparison=code_digest(compared_values),
    size=lambda place: None,
    useful_size=lambda size: size,
    cautions=_cautions,
    show=_show,
    explain=Explain(
        _explain,
        "Words that decided",
        "Marked words spoke for the answer, the darker the more, and underlined ones against it: without them, it "
        "would be less or more sure.",
        replaces=True,
    ),
    baseline=Baseline(
        "tf_idf",
        _texts,
        _tf_idf,
        strength=10.0,
        most_examples=50_000,
    ),
    backbone="minilm",
    column="text",
)
