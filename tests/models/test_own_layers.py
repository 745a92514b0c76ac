"""A layer of this project's own is opened again by every command, and what would not be is refused before training."""

import shutil
import subprocess
import sys
from pathlib import Path

import keras
import pytest

from app.errors import UsageError
from inference.load import check_can_be_loaded
from models.applications import POOLING
from models.own_layers import OWN_PARTS, own_part
from tests.conftest import draw_photos
from tests.small_runs import make_run

REPOSITORY = Path(__file__).parent.parent.parent
ATTENTION = '''

@own_part
class AttentionPooling(keras.layers.Layer):
    """The mean over the places of a feature map, weighted by how much each is attended to."""

    def build(self, input_shape):
        self.score = self.add_weight(shape=(input_shape[-1], 1), name="score")

    def call(self, maps):
        places = keras.ops.reshape(maps, (-1, maps.shape[1] * maps.shape[2], maps.shape[3]))
        return keras.ops.sum(keras.ops.softmax(places @ self.score, axis=1) * places, axis=1)


@own_part
def double(values):
    return 2 * values
'''
COMMANDS = """
import sys
import {0}
sys.argv = ["{0}.py", *{1!r}]
{0}.main()
"""


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the project, with a pooling and an activation of its own as CONTRIBUTING.md says."""
    (tmp_path / "copy").mkdir()
    for path in REPOSITORY.glob("*.py"):
        shutil.copy(path, tmp_path / "copy")
    for path in REPOSITORY.glob("*/__init__.py"):
        if path.parent.name != "tests":
            shutil.copytree(path.parent, tmp_path / "copy" / path.parent.name)
    pooling, task = "from models.parts", "from tasks.classification import Classification\n"
    for name, old, new in (
        ("models/own_layers.py", "", ATTENTION),
        ("models/applications.py", '"avg": keras.layers.GlobalAveragePooling2D', '"avg": AttentionPooling'),
        ("models/applications.py", pooling, f"from models.own_layers import AttentionPooling\n{pooling}"),
        ("models/heads.py", 'activation="relu"', "activation=double"),
        ("models/heads.py", task, f"{task}from models.own_layers import double\n"),
    ):
        path = tmp_path / "copy" / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new) if old else text + new)
    draw_photos(tmp_path / "photos", ("cat", "dog"), 12)
    return tmp_path / "copy"


def run_in(copy: Path, *commands: tuple[str, list[str]]) -> str:
    """Runs commands one after the other in one new process; returns what they print."""
    script = "".join(COMMANDS.format(*command) for command in commands)
    done = subprocess.run([sys.executable, "-c", script], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_command_opens_a_model_with_layers_of_its_own(copy, tmp_path):
    photos, run, cache = (str(tmp_path / name) for name in ("photos", "run", "cache"))
    quick = ["--image-size", "64", "--head-units", "4", "--head-epochs", "1", "--fine-tune-epochs", "1"]
    printed = run_in(copy, ("train", ["--data", photos, "--output", run, "--cache-dir", cache, *quick]))
    assert "could not be made" not in printed
    assert "Grad-CAM" in (tmp_path / "run" / "report.html").read_text()
    printed = run_in(
        copy,
        ("evaluate", [run, "--cache-dir", cache]),
        ("predict", [run, photos]),
        ("export", [run, "--format", "onnx", "--cache-dir", cache]),
    )
    assert "identical to metrics.json" in printed
    assert "24 pictures in" in printed
    assert "largest difference" in printed


class Foreign(keras.layers.Layer):
    def call(self, maps):
        return keras.ops.mean(maps, axis=(1, 2))


def test_a_layer_that_nobody_trusts_is_refused_before_training(tmp_path, monkeypatch):
    monkeypatch.setitem(POOLING, "avg", Foreign)
    with pytest.raises(UsageError) as error:
        make_run(tmp_path, ("cat", "dog"))
    assert str(error.value) == (
        'This network could not be opened again after training: it asks for "Foreign" of '
        f'"{Foreign.__module__}", which is no part of a model of Keras. Write what is your own as a class or '
        "function with @own_part, as CONTRIBUTING.md says under 'Change it in custom.py'."
    )
    assert not (tmp_path / "run").exists()


def model_with(layer: keras.Layer) -> keras.Model:
    pictures = keras.Input((8, 8, 3))
    return keras.Model(pictures, layer(pictures))


def test_a_function_that_nobody_trusts_is_refused():
    with pytest.raises(UsageError, match=r"asks for \"Lambda\" of \"keras.layers\""):
        check_can_be_loaded(model_with(keras.layers.Lambda(lambda maps: maps)))


def test_a_layer_that_forgets_its_arguments_is_refused():
    @own_part
    class Forgetful(keras.layers.Layer):
        def __init__(self, units=1, **settings):
            super().__init__(**settings)
            self.units = units

        def build(self, input_shape):
            self.kernel = self.add_weight(shape=(input_shape[-1], self.units))

        def call(self, maps):
            return maps @ self.kernel

        def get_config(self):
            return super().get_config()

    try:
        check_can_be_loaded(model_with(Forgetful()))
        with pytest.raises(UsageError, match="get_config of Forgetful leaves out what its weights depend on"):
            check_can_be_loaded(model_with(Forgetful(5)))
    finally:
        del OWN_PARTS["headstart>Forgetful"]
