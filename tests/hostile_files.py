"""Damaged copies of a file, as a bad disk makes them, or someone who wants to."""

from hypothesis import strategies as st


def mutations(content: bytes) -> st.SearchStrategy[bytes]:
    """Copies of a file with bits turned, an end missing, a part copied over another, or numbers written over it."""
    places = st.integers(0, len(content) - 1)
    bits = st.lists(st.tuples(places, st.integers(0, 7)), min_size=1, max_size=8)
    numbers = st.sampled_from([0, 1, 2**31, 2**40, 2**64 - 1]) | st.integers(0, 2**64 - 1) | places
    return st.one_of(
        bits.map(lambda turned: _turn_bits(content, turned)),
        places.map(lambda length: content[:length]),
        st.tuples(places, places, st.integers(1, 512)).map(
            lambda part: _overwrite(content, part[0], content[part[1] : part[1] + part[2]])
        ),
        st.tuples(places, numbers).map(lambda part: _overwrite(content, part[0], part[1].to_bytes(8, "little"))),
    )


def _turn_bits(content: bytes, turned: list[tuple[int, int]]) -> bytes:
    damaged = bytearray(content)
    for place, bit in turned:
        damaged[place] ^= 1 << bit
    return bytes(damaged)


def _overwrite(content: bytes, place: int, part: bytes) -> bytes:
    return (content[:place] + part + content[place + len(part) :])[: len(content)]
