"""Shows which words decided: the gradient of an answer with respect to what a token is embedded as, times that."""

from collections.abc import Sequence

import keras
import numpy as np
import tensorflow as tf
from markupsafe import Markup

from data.arrays import Ragged, Tensor, mask_of, padded, take_rows
from devices.precision import OUTPUT_LAYER

BATCH_SIZE = 16
SHADES = 5
"""Classes `for-1` to `for-5` of the page; the strongest word of a text has the last."""


def token_scores(model: keras.Model, inputs: Sequence[Tensor], classes: np.ndarray) -> list[np.ndarray]:
    """Computes how much each token speaks for a class.

    Args:
        model: a classifier of tokens and their mask.
        inputs: the tokens, ragged.
        classes: int (n,), the class asked about for each text.

    Returns:
        float32 (length,) for each text, above 0 for what speaks for the class.
    """
    (tokens,) = inputs
    assert isinstance(tokens, Ragged)
    embedded = next(
        operation.output
        for operation in model.operations
        if isinstance(operation.output, keras.KerasTensor) and len(operation.output.shape) == 3
    )
    head = model.get_layer("head")
    output = head.get_layer(OUTPUT_LAYER)
    # One model, so that the gradient reaches from the answer to the vectors.
    both = keras.Model(model.inputs, [embedded, model.get_layer("pooling").output])
    to_hidden = keras.Model(head.inputs[0], output.input)
    scores = []
    for start in range(0, len(tokens), BATCH_SIZE):
        part = take_rows(tokens, np.arange(start, min(start + BATCH_SIZE, len(tokens))))
        assert isinstance(part, Ragged)
        longest = int(part.lengths.max())
        with tf.GradientTape() as tape:
            vectors, pooled = both([padded(part, longest), mask_of(part.lengths, longest)], training=False)
            logits = tf.matmul(to_hidden(pooled, training=False), output.kernel) + output.bias
            chosen = tf.cast(classes[start : start + BATCH_SIZE], tf.int32)
            if logits.shape[-1] == 1:  # one output for two classes speaks for the second
                asked = tf.where(chosen == 1, logits[:, 0], -logits[:, 0])
            else:
                asked = tf.gather(logits, chosen, axis=1, batch_dims=1)
        found = tf.reduce_sum(tape.gradient(asked, vectors) * vectors, axis=-1).numpy()
        scores += [row[:length] for row, length in zip(found, part.lengths, strict=True)]
    return scores


def marked(text: str, spans: Sequence[tuple[int, int]], scores: np.ndarray) -> Markup:
    """Makes of a text an element of a page in which the words that decided are marked.

    Args:
        text: as it is; nothing of it is taken for markup.
        spans: first character and end of each token; those without characters count for nothing.
        scores: of the tokens.
    """
    of_words: dict[int, float] = {}
    ends: dict[int, int] = {}
    starts = _word_starts(text)
    for (first, end), score in zip(spans, scores, strict=False):
        if first < end <= len(text):
            start = starts[first]
            of_words[start] = of_words.get(start, 0.0) + float(score)
            ends[start] = max(ends.get(start, 0), end)
    largest = max(map(abs, of_words.values()), default=0.0) or 1.0
    parts, done = [], 0
    for start in sorted(of_words):
        if start < done:
            continue
        shade = round(SHADES * abs(of_words[start]) / largest)
        parts.append(Markup("{}").format(text[done:start]))
        word, done = text[start : ends[start]], ends[start]
        kind = "for" if of_words[start] > 0 else "against"
        parts.append(
            Markup('<mark class="{}-{}">{}</mark>').format(kind, shade, word) if shade else Markup.escape(word)
        )
    parts.append(Markup.escape(text[done:]))
    return Markup('<p class="text" dir="auto">{}</p>').format(Markup("").join(parts))


def _word_starts(text: str) -> list[int]:
    """Returns for each character where its word begins: letters and digits belong together, all else is alone."""
    starts: list[int] = []
    for index, character in enumerate(text):
        inside = index and character.isalnum() and text[index - 1].isalnum()
        starts.append(starts[-1] if inside else index)
    return starts
