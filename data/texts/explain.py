"""Computes which words decided, by how sure a network is of its answer with and without each of them."""

from collections.abc import Callable, Sequence

import numpy as np
from markupsafe import Markup

from data.arrays import filled
from data.kinds import Reader

MOST_PIECES = 32
"""Most pieces that are left out in turn; in longer texts, a piece is several words."""
SHADES = 5
"""Number of CSS classes, `for-1` to `for-5`; the strongest word of a text has the last."""
Span = tuple[int, int]
"""Start and end of a piece of a text, in characters."""


def word_spans(text: str) -> list[Span]:
    """Returns the words of a text: runs of letters and digits, and single other characters except blanks."""
    spans: list[Span] = []
    for index, character in enumerate(text):
        inside = index and character.isalnum() and text[index - 1].isalnum()
        if inside:
            spans[-1] = (spans[-1][0], index + 1)
        elif not character.isspace():
            spans.append((index, index + 1))
    return spans


def piece_scores(
    predict: Callable[[Sequence[np.ndarray]], np.ndarray],
    reader: Reader,
    tokens: np.ndarray,
    token_spans: Sequence[Span],
    words: Sequence[Span],
    chosen: int,
) -> list[tuple[Span, float]]:
    """Computes how much each piece of a text speaks for a class.

    Args:
        predict: returns probabilities, (n, num_outputs), given tokens and their mask.
        reader: reader of the text.
        tokens: numbers of the text's tokens, int32 (length,).
        token_spans: spans of the tokens in the text; tokens without characters belong to no piece.
        words: spans of the words.
        chosen: class to explain.

    Returns:
        Span and score of each piece: how much the log-odds of the class fall without it; above 0 if it speaks for the
        class.
    """
    size = -(-len(words) // MOST_PIECES) or 1
    pieces = [(words[first][0], words[min(first + size, len(words)) - 1][1]) for first in range(0, len(words), size)]
    pieces = [piece for piece in pieces if any(piece[0] < end and first < piece[1] for first, end in token_spans)]
    inputs, mask = filled(reader.join([(tokens,)] * (1 + len(pieces))))
    for row, (start, stop) in enumerate(pieces, start=1):
        for place, (first, end) in enumerate(token_spans[: len(tokens)]):
            mask[row, place] &= not (start < end and first < stop and first < end)
    outputs = predict([inputs, mask])
    if outputs.shape[1] == 1:  # the only output is the probability of the second class
        probabilities = outputs[:, 0] if chosen == 1 else 1 - outputs[:, 0]
    else:
        probabilities = outputs[:, chosen]
    clipped = np.clip(probabilities.astype(np.float64), 1e-7, 1 - 1e-7)
    odds = np.log(clipped / (1 - clipped))
    return list(zip(pieces, (odds[0] - odds[1:]).tolist(), strict=True))


def marked(text: str, scores: Sequence[tuple[Span, float]]) -> Markup:
    """Makes an element of a page from a text with marks on the deciding words; the text itself is escaped."""
    largest = max((abs(score) for _, score in scores), default=0.0) or 1.0
    parts, done = [], 0
    for (start, end), score in scores:
        shade = round(SHADES * abs(score) / largest)
        piece = Markup.escape(text[start:end])
        if shade:
            piece = Markup('<mark class="{}-{}">{}</mark>').format("for" if score > 0 else "against", shade, piece)
        parts += [Markup.escape(text[done:start]), piece]
        done = end
    return Markup('<p class="text" dir="auto">{}</p>').format(Markup("").join([*parts, Markup.escape(text[done:])]))
