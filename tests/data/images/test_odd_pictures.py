"""One folder of everything that is found in folders: what is good is used as Pillow reads it, the rest is told why."""

import glob
import json
import os
import stat
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image, ImageOps

import data.images.decode
from app.config import TrainConfig
from data.images.decode import read_picture
from data.sources import printable
from tests.bounded import READ, open_all
from tests.data.images.odd_pictures import (
    AS_PILLOW,
    CLASSES,
    IGNORED,
    NOT_A_PICTURE,
    ODD,
    TOO_MANY,
    TRUNCATED,
    write_odd_pictures,
)
from training.inputs import load_inputs
from training.run import train

SIZE = 32


@pytest.fixture(scope="module")
def odd_run(tmp_path_factory):
    """The folder, what is expected of its files, and a run on it."""
    root = tmp_path_factory.mktemp("odd")
    expected = write_odd_pictures(root / "photos")
    config = TrainConfig.of(
        data=str(root / "photos"),
        image_size=SIZE,
        head_epochs=1,
        fine_tune_epochs=0,
        output=root / "run",
        cache_dir=root / "cache",
    )
    before = state_of(root / "photos")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(data.images.decode, "MAX_SECONDS", 0.5)
        inputs = load_inputs(config)
        trained = train(inputs)
    assert state_of(root / "photos") == before, "a run changed its data"
    return root / "photos", expected, inputs, trained


def state_of(folder: Path) -> dict[str, tuple]:
    """What is in a folder: for each path its kind, rights, target or content."""

    def state(path: Path) -> tuple:
        mode = path.lstat().st_mode
        content: object = os.readlink(path) if path.is_symlink() else None
        return mode, path.read_bytes() if stat.S_ISREG(mode) and os.access(path, os.R_OK) else content

    found = (Path(parent, name) for parent, folders, names in os.walk(folder) for name in folders + names)
    return {os.fspath(path): state(path) for path in found}


def read_by_pillow(path: Path) -> np.ndarray:
    """What Pillow makes of a picture by itself, stretched to a square.

    More than 8 bits of grey have a rule: of 16 bits the upper 8 count; 32 bits and floats, which have no fixed white,
    are spread so that the darkest becomes 0 and the brightest 255.
    """
    with Image.open(path) as picture:
        picture = ImageOps.exif_transpose(picture)
        values = np.asarray(picture)
        if picture.mode == "I;16":
            picture = Image.fromarray((values // 256).astype(np.uint8))
        elif picture.mode in ("I", "F"):
            spread = (values - values.min().astype(np.float32)) / (values.max() - values.min()) * 255
            picture = Image.fromarray(np.round(spread).astype(np.uint8))
        if picture.has_transparency_data:
            rgba = picture.convert("RGBA")
            picture = Image.new("RGB", picture.size, "white")
            picture.paste(rgba, mask=rgba.getchannel("A"))
        return np.asarray(picture.convert("RGB").resize((SIZE, SIZE), Image.Resampling.BICUBIC), np.int16)


def test_there_are_many_kinds():
    assert len(ODD) >= 100
    assert len({odd.name for odd in ODD.values()}) == len(ODD)


def test_the_quarantine_holds_exactly_the_bad_ones_with_the_true_reasons(odd_run):
    _, expected, _, run = odd_run
    table = pd.read_csv(run / "quarantine.csv", dtype=str, keep_default_na=False)
    bad = {path: reason for path, reason in expected.items() if reason not in (AS_PILLOW, IGNORED)}
    assert dict(zip(table["path"], table["reason"], strict=True)) == bad


def test_every_good_one_is_in_a_split_once(odd_run):
    _, expected, inputs, run = odd_run
    pictures = [inputs.data.display_path(picture.path) for picture in inputs.data.examples]
    used = [pictures[position] for split in inputs.data.splits.values() for position in split]
    assert sorted(used) == sorted(path for path, outcome in expected.items() if outcome == AS_PILLOW)
    record = json.loads((run / "metrics.json").read_text())["data"]
    assert sum(record[split] for split in ("train", "val", "test")) == len(used)


@pytest.mark.parametrize("kind", [kind for kind, odd in ODD.items() if odd.expected == AS_PILLOW])
def test_an_odd_picture_is_read_as_pillow_reads_it(odd_run, kind):
    root, _, _, _ = odd_run
    path = next(root.glob(f"*/{glob.escape(ODD[kind].name)}"))
    # A rounding apart where something was transparent: two ways to put it on white.
    np.testing.assert_allclose(read_picture(path, SIZE, "stretch").astype(np.int16), read_by_pillow(path), atol=1)


@pytest.mark.parametrize("class_name", CLASSES)
def test_every_odd_picture_is_opened_in_time_and_memory(odd_run, class_name):
    root, expected, _, _ = odd_run
    opened = {f"{class_name}/{printable(name)}": said for name, said in open_all("pictures", root / class_name).items()}
    sure = {path for path in opened if expected.get(path, IGNORED) in (AS_PILLOW, NOT_A_PICTURE, TRUNCATED, TOO_MANY)}
    assert len(sure) > 30
    assert {path for path in sure if opened[path] == READ} == {path for path in sure if expected[path] == AS_PILLOW}
