"""The table of kinds is complete, and a kind of one's own goes all the way from --data to arrays."""

from pathlib import Path

import numpy as np
import pytest
from markupsafe import Markup

from app.config import TrainConfig
from app.errors import UsageError
from data.content import UnreadableError
from data.images.kind import KIND as IMAGE
from data.kinds import KINDS, Kind, Reader, Shown, find_kind, kind_of, promised_kind
from data.prepare import prepare_data
from data.sources import Example, Source, load_source
from models.backbones import check_kind, find

WIDTH = 3


def read_numbers(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Reads a line of numbers as two tensors: the numbers, and how many of them are negative."""
    try:
        numbers = np.array([float(part) for part in content.decode().split(",")], np.float32)
    except ValueError:
        raise UnreadableError("no numbers") from None
    if len(numbers) != WIDTH:
        raise UnreadableError(f"{len(numbers)} numbers, not {WIDTH}")
    return numbers, np.array([np.sum(numbers < 0)], np.int32)


def numbers_reader(config, folder=None) -> Reader:
    return Reader(
        {"width": WIDTH},
        title=f"{WIDTH} numbers",
        inputs=(np.dtype((np.float32, (WIDTH,))), np.dtype((np.int32, (1,)))),
        signature=np.dtype((np.float32, (WIDTH,))),
        read=read_numbers,
        read_with_signature=lambda content: (read_numbers(content), read_numbers(content)[0]),
    )


NUMBERS = Kind(
    "numbers",
    noun="row",
    nouns="rows",
    endings=(".numbers",),
    size_setting="image_size",
    reader=numbers_reader,
    compared_values=lambda signatures: signatures / np.linalg.norm(signatures, axis=1, keepdims=True),
    comparison="",
    size=lambda place: None,
    useful_size=lambda size: size,
    cautions=lambda sizes, config: [],
    show=lambda inputs, place, title: Shown(Markup("<code>{}</code>").format(inputs[0].tolist()), None),
)


@pytest.fixture
def numbers(monkeypatch) -> Kind:
    """A kind without pictures, files of its own, variation, explanation or baseline."""
    monkeypatch.setitem(KINDS, "numbers", "tests.data.test_kinds")
    monkeypatch.setattr("tests.data.test_kinds.KIND", NUMBERS, raising=False)
    find_kind.cache_clear()
    yield NUMBERS
    find_kind.cache_clear()


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_has_its_name_and_nouns(name):
    kind = find_kind(name)
    assert kind.name == name
    assert kind.noun != kind.nouns
    assert all(ending.startswith(".") and ending == ending.lower() for ending in kind.endings)


def test_most_files_decide_the_kind(numbers):
    files = [Path("a.JPG"), Path("b.numbers"), Path("c.numbers"), Path("notes.txt")]
    assert kind_of(files) == numbers
    assert kind_of(files[:1]) == IMAGE
    assert kind_of([]) == IMAGE
    assert promised_kind(Path("d.NUMBERS")) == numbers
    assert promised_kind(Path("d.pdf")) is None


def test_captions_and_transcripts_do_not_decide_the_kind():
    pictures = [Path(f"cat/{number}.JPG") for number in range(3)]
    captions = [path.with_suffix(".txt") for path in pictures]
    assert kind_of([*pictures, *captions, Path("cat/index.txt"), Path("dog/index.txt")]) == IMAGE
    assert kind_of([Path("a.wav"), Path("b.wav"), Path("a.txt"), Path("README.txt")]).name == "sound"
    elsewhere = [path.parent / "texts" / path.name for path in captions]
    assert kind_of([*pictures, *elsewhere, Path("index.txt")]).name == "text"


def test_files_of_another_kind_are_found_and_named_by_its_nouns(numbers, tmp_path):
    for name in ("high", "low"):
        (tmp_path / "data" / name).mkdir(parents=True)
        (tmp_path / "data" / name / "1.numbers").write_text("1,2,3")
    assert load_source(str(tmp_path / "data"), tmp_path / "cache").kind == numbers
    with pytest.raises(UsageError, match="which is one row"):
        load_source(str(tmp_path / "data" / "low" / "1.numbers"), tmp_path / "cache")


def rows_of(count: int) -> list[Example]:
    """Makes rows without files; a row is 'high' if its first number is."""
    draws = np.random.default_rng(0).normal(size=(count, WIDTH))
    lines = [",".join(f"{number:.4f}" for number in draw) for draw in draws]
    labels = [("high",) if draw[0] > 0 else ("low",) for draw in draws]
    return [
        Example(Path(f"row {number}"), label, content=line.encode())
        for number, (label, line) in enumerate(zip(labels, lines, strict=True), 1)
    ]


def test_examples_without_files_are_read_compared_and_split(numbers, tmp_path):
    examples = rows_of(40)
    broken = [Example(Path("row 41"), ("low",), content=b"x"), Example(Path("row 42"), ("low",), content=b"1,2")]
    copy = examples[0]._replace(path=Path("row 43"))
    source = Source("rows", tmp_path, [*examples, *broken, copy], numbers)
    for _ in range(2):  # computed, and from the store
        data = prepare_data(source, TrainConfig.of(cache_dir=tmp_path / "cache"))
        assert [(str(item.path), item.reason) for item in data.quarantine] == [
            ("row 41", "no numbers"),
            ("row 42", "2 numbers, not 3"),
        ]
        assert len(data.examples) == 41
        values, negative = data.inputs
        assert values.shape == (41, WIDTH)
        assert values.dtype == np.float32
        np.testing.assert_array_equal(negative[:, 0], (values < 0).sum(axis=1))
        assert data.duplicates == 1
        assert data.groups[0] == data.groups[-1]
    assert data.kind.vary is data.kind.explain is data.kind.baseline is None
    assert "<code>" in data.show(0, "title").html


def test_unreadable_examples_are_named_by_their_noun(numbers, tmp_path):
    source = Source("rows", tmp_path, [Example(Path("row 1"), (name,), content=b"x") for name in "ab"], numbers)
    with pytest.raises(UsageError, match="is a readable row; the first is 'row 1': no numbers"):
        prepare_data(source, TrainConfig.of(cache_dir=tmp_path / "cache"))


def test_another_row_is_another_entry_of_the_store(numbers, tmp_path):
    config, examples = TrainConfig.of(cache_dir=tmp_path / "cache"), rows_of(40)
    before = prepare_data(Source("rows", tmp_path, examples, numbers), config)
    examples[3] = examples[3]._replace(content=b"1,1,1")
    after = prepare_data(Source("rows", tmp_path, examples, numbers), config)
    assert before.inputs[0][3].tolist() != after.inputs[0][3].tolist() == [1, 1, 1]


def test_a_backbone_for_another_kind_is_refused(numbers):
    check_kind(find("vgg16"), IMAGE.name, IMAGE.nouns)
    with pytest.raises(UsageError, match=r"for rows \(none is known\).*vgg16 is for another kind of input: image"):
        check_kind(find("vgg16"), numbers.name, numbers.nouns)
