"""Whoever changes code that makes a stored value gets new values: the code is part of the key."""

import importlib
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from features.fingerprint import fingerprint

REPOSITORY = Path(__file__).parents[2]
KEYS = """
import json, sys
from pathlib import Path
import numpy as np
from app.config import TrainConfig
from data.prepare import prepare_data
from data.sources import load_source

config = TrainConfig.of(data=sys.argv[1], cache_dir=Path("cache"), image_size=16)
data = prepare_data(load_source(config.data.data, config.run.cache_dir), config)
if "features" in sys.argv:
    import keras
    from data.batches import View
    from data.pipeline import variation
    from data.store import open_store
    from features.cuts import find_cuts
    from features.frozen_part import FrozenPart
    inputs = keras.Input((16, 16, 3))
    pooled = keras.layers.GlobalAveragePooling2D(name="pooling")(keras.layers.Rescaling(0.1)(inputs))
    model = keras.Model(inputs, keras.layers.Dense(1, kernel_initializer="ones")(pooled))
    cuts = [cut for cut in find_cuts(model) if cut.layer == "pooling"]
    part = FrozenPart(model, cuts, open_store(config.run.cache_dir, 1), "float32", "features")
    view = View(data.inputs, np.arange(len(data.inputs[0])))
    part.load_or_compute(view, variation(data.kind.vary(), 0, 1, len(view.rows)), data.describe(view.rows))
titles = [json.loads(path.read_text())["title"] for path in Path("cache").glob("store/*/entry.json")]
print(json.dumps([title.split(", ")[1].split(" ")[0] for title in titles]))
"""


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the code, to be edited."""
    folder = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "venv", "tmp*", "tests", "notebooks", "benchmarks", "__pycache__", "runs")
    shutil.copytree(REPOSITORY, folder, ignore=ignored)
    return folder


def stored_by(copy: Path, *arguments: object) -> list[str]:
    """Prepares pictures, and lists what is in the store then."""
    command = [sys.executable, "-c", KEYS, *map(str, arguments)]
    ended = subprocess.run(command, cwd=copy, capture_output=True, text=True, env={"PYTHONPATH": ".", "PATH": "/bin"})
    assert ended.returncode == 0, ended.stderr
    return sorted(json.loads(ended.stdout.splitlines()[-1]))


def edit(copy: Path, file: str, old: str, new: str) -> None:
    text = (copy / file).read_text()
    assert text.count(old) == 1
    (copy / file).write_text(text.replace(old, new))


def test_changed_decoding_makes_other_pictures(copy, make_folder):
    photos = make_folder()
    assert stored_by(copy, photos) == stored_by(copy, photos) == ["look-alikes", "pictures"]
    edit(copy, "data/images/look_alikes.py", "LEAST_SLOPE = 1.0", "LEAST_SLOPE = 1.5")
    assert stored_by(copy, photos) == ["look-alikes", "look-alikes", "pictures"]
    edit(copy, "data/images/decode.py", "ZOOM = 0.875", "ZOOM = 0.75")
    assert stored_by(copy, photos).count("pictures") == 2


def test_changed_augmentation_or_computation_makes_other_features(copy, make_folder):
    photos = make_folder()
    assert stored_by(copy, photos, "features").count("pooling") == 1
    edit(copy, "data/images/augment.py", "    crops = tf.image", "    pictures = 255 - pictures\n    crops = tf.image")
    assert stored_by(copy, photos, "features").count("pooling") == 2
    edit(copy, "features/forward_pass.py", "training=False)", "training=True)")
    assert stored_by(copy, photos, "features").count("pooling") == 3


LAYER = """
import keras

class Brighter(keras.layers.Layer):
    def call(self, inputs):
        return inputs + 1
"""


def test_the_code_of_an_own_layer_is_part_of_the_network(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", True)

    def fingerprint_with(code: str) -> str:
        (tmp_path / "own_layer.py").write_text(code)
        importlib.invalidate_caches()
        sys.modules.pop("own_layer", None)
        return fingerprint(keras.Sequential([keras.Input((2,)), importlib.import_module("own_layer").Brighter()]))

    first = fingerprint_with(LAYER)
    assert fingerprint_with(LAYER) == first
    assert fingerprint_with(LAYER.replace("+ 1", "+ 2")) != first
