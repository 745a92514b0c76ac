"""Finds near-copies by MinHash (Broder, 1997), which estimates the share of common five-character pieces.

For each of many hash functions, one bit of the smallest hash is kept (b-bit minwise hashing: Li and König, WWW 2010).
With bits as plus and minus ones, the dot product of two signatures estimates the share without bias.
"""

import re

import numpy as np

PIECE = 5
"""Characters of a piece."""
HASHES = 256
"""Number of hash functions: an estimate of a share of 0.8 then has a standard deviation of 0.04."""
MOST_CHARACTERS = 10_000
"""Characters that are compared: the beginning of longer texts."""
_RANDOM = np.random.default_rng(0)
_FACTORS = _RANDOM.integers(0, 2**63, HASHES, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
_SUMMANDS = _RANDOM.integers(0, 2**63, HASHES, dtype=np.uint64)
_POWERS = _RANDOM.integers(0, 2**63, PIECE, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def signature(text: str) -> np.ndarray:
    """Returns the signature of a text as packed bits, uint8 (HASHES / 8,); capitals and punctuation do not count."""
    plain = " ".join(re.findall(r"\w+", text[:MOST_CHARACTERS].casefold())) or text[:MOST_CHARACTERS]
    codes = np.frombuffer(plain.ljust(PIECE).encode("utf-32-le", "surrogatepass"), np.uint32).astype(np.uint64)
    pieces = np.unique(np.lib.stride_tricks.sliding_window_view(codes, PIECE) @ _POWERS)
    pieces ^= pieces >> np.uint64(32)
    least = (pieces[:, None] * _FACTORS + _SUMMANDS).min(axis=0)
    return np.packbits((least >> np.uint64(16)) & np.uint64(1) == 1)


def compared_values(signatures: np.ndarray) -> np.ndarray:
    """Turns packed bits into plus and minus ones, float32 (n, HASHES), scaled to length 1."""
    return (np.unpackbits(signatures, axis=1).astype(np.float32) * 2 - 1) / np.float32(HASHES**0.5)
