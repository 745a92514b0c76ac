"""Whatever is in a config file, it is a valid config or a sentence."""

import contextlib
import json
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.config import TrainConfig
from app.errors import UsageError
from tests.hostile_files import mutations

REAL = TrainConfig.of(
    data="photos", image_size=224, head_units=(64, 32), trainable_layers=20, learning_rate=1e-3, batch_size=32, views=4
).to_json()
NAMES = st.sampled_from(sorted(REAL)) | st.text(max_size=8)
NUMBERS = st.integers() | st.floats() | st.sampled_from([0, 1, -1, 0.5, 2**31, 2**64, 10**400])
VALUES = st.none() | st.booleans() | NUMBERS | st.text(max_size=8) | st.sampled_from(["find", "all", "none", "\0"])
JSON = st.recursive(VALUES, lambda parts: st.lists(parts, max_size=4) | st.dictionaries(NAMES, parts, max_size=4))
CHANGED = st.dictionaries(NAMES, JSON, max_size=3).map(lambda changes: json.dumps(REAL | changes).encode())
FUZZ = settings(max_examples=400, derandomize=True, database=None)


@pytest.fixture(scope="module")
def path(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("config") / "config.json"


@FUZZ
@given(CHANGED | JSON.map(json.dumps).map(str.encode) | st.binary(max_size=60) | mutations(json.dumps(REAL).encode()))
@example(b"")
@example(b"[" * 10**5)
@example(b'{"a":' * 10**5)
@example(b'{"learning_rate":' + b"[" * 900 + b"]" * 900 + b"}")
@example(b'{"seed":' + b"9" * 5000 + b"}")
@example(b'{"batch_size":' + b"9" * 4000 + b"}")
@example(b'{"dropout":1e999}')
@example(b'{"head_units":[64,"x"]}')
def test_a_file_is_a_valid_config_or_is_refused(path, content):
    path.write_bytes(content)
    with contextlib.suppress(UsageError):
        config = TrainConfig.from_file(path)
        path.write_text(json.dumps(config.to_json(), allow_nan=False))
        assert TrainConfig.from_file(path) == config


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is no JSON"),
        (b"\xff\xfe{}", "is no JSON: 'utf-8' codec"),
        (b"[" * 10**5, "is no JSON: nested too deeply"),
        (b'{"dropout": NaN}', "is no JSON: NaN is no number"),
        (b'{"dropout": -Infinity}', "is no JSON: -Infinity is no number"),
        (b'{"dropout": 1e999}', "--dropout must be a number of at least 0 and below 1; received inf"),
        (b'{"seed": 0, "seed": 1}', "is no JSON: a name is twice in one object"),
        (b'{"seed": true}', "cannot be used: --seed must be a whole number of at least 0; received True"),
        (b'{"class_weights": 1}', "--class-weights must be true or false; received 1"),
        (b'{"batch_size": 4294967296}', "--batch-size must be below 4294967296; received 4294967296"),
        (b'{"head_units": [64, true]}', "--head-units must be whole numbers of at least 1; received True"),
        (b'{"head_units": [64, "x"]}', "--head-units must be whole numbers of at least 1; received x"),
        (b'{"data": "photos\\u0000"}', r"--data must be a text that a path can hold; received photos\\x00"),
        (b'{"data": "\\ud800"}', "Settings must be numbers and Unicode texts"),
        (b'{"\\u001b[2J\\n": 1}', r"received '\\x1b\[2J\\n'"),
    ],
)
def test_what_is_wrong_with_a_file_is_said_in_one_line(path, content, message):
    path.write_bytes(content)
    with pytest.raises(UsageError, match=message) as error:
        TrainConfig.from_file(path)
    assert len(str(error.value).splitlines()) == 1


def test_a_folder_is_no_config(tmp_path):
    with pytest.raises(UsageError, match="not a file"):
        TrainConfig.from_file(tmp_path)


def test_a_huge_file_is_not_read_to_its_end(path):
    with path.open("wb") as file:
        file.truncate(2**27)
    with pytest.raises(UsageError, match="is no JSON: more than 67,108,864 bytes"):
        TrainConfig.from_file(path)
