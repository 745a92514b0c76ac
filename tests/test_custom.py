"""What CONTRIBUTING.md shows to put into custom.py is used by every command; changed or broken, the file is noticed."""

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import custom
from app import custom_parts
from app.config import TrainConfig
from app.custom_parts import CHOICES, CustomFile, custom_file, find_custom
from app.errors import RunError, UsageError
from data.images.kind import KIND as IMAGE
from data.images.policies import POLICIES
from data.kinds import CUSTOM_DRAWS
from data.pipeline import variation
from data.sounds.kind import KIND as SOUND
from data.sounds.vary import POLICIES as OF_SOUNDS
from models.backbones import find
from models.classifier import build_classifier
from models.families import FAMILIES
from models.heads import HEADS, build_head, is_linear
from tasks.classification import BINARY, MULTICLASS
from tasks.metrics import all_metrics
from tests.conftest import draw_photos
from tests.small_network import small_network
from training.frozen import build_frozen
from training.inputs import inputs_digest, load_inputs

REPOSITORY = Path(__file__).parent.parent
STEPS = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^```python\n(.*?)^```", STEPS, re.S | re.M)
COMMANDS = """
import sys
import {0}
sys.argv = ["{0}.py", *{1!r}]
{0}.main()
"""
OWN = ["--head", "norm_gelu", "--head-units", "4", "--pooling", "attention", "--vary", "dark", "--loss", "focal"]


@pytest.fixture
def copy(tmp_path) -> Path:
    """A copy of the project with all examples in custom.py."""
    folder = tmp_path / "copy"
    ignored = shutil.ignore_patterns(".*", "venv", "tmp*", "tests", "notebooks", "benchmarks", "__pycache__", "runs")
    shutil.copytree(REPOSITORY, folder, ignore=ignored)
    with (folder / "custom.py").open("a") as file:
        file.write("\n\n".join(EXAMPLES))
    draw_photos(tmp_path / "photos", ("cat", "dog"), 20)
    return folder


def run_in(copy: Path, *commands: tuple[str, list[str]]) -> str:
    """Runs commands one after the other in one new process; returns what they print."""
    script = "".join(COMMANDS.format(*command) for command in commands)
    done = subprocess.run([sys.executable, "-c", script], cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_every_example_is_short():
    assert len(EXAMPLES) >= 5
    assert all(len(example.splitlines()) <= 15 for example in EXAMPLES)


@pytest.mark.slow
def test_every_command_uses_what_is_in_the_file(copy, tmp_path):
    photos, run, found, cache = (str(tmp_path / name) for name in ("photos", "run", "found", "cache"))
    data = ["--data", photos, "--cache-dir", cache, "--image-size", "32", *OWN]
    printed = run_in(
        copy,
        ("train", [*data, "--output", run, "--head-epochs", "2", "--trainable-layers", "6", "--fine-tune-epochs", "1"]),
        ("evaluate", [run, "--cache-dir", cache]),
        ("predict", [run, photos]),
        ("export", [run, "--format", "onnx", "--cache-dir", cache]),
    )
    assert "could not be made" not in printed
    assert "identical to metrics.json" in printed
    assert "40 pictures in" in printed
    assert "largest difference" in printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert -1 <= metrics["test"]["mcc"] <= 1
    assert "mcc" in (tmp_path / "run" / "report.html").read_text()
    assert "| mcc | " in (tmp_path / "run" / "MODEL_CARD.md").read_text()
    assert "Grad-CAM" in (tmp_path / "run" / "report.html").read_text()
    stored = [json.loads(path.read_text()) for path in Path(cache).glob("store/*/entry.json")]
    assert any("dark" in json.dumps(entry) for entry in stored)

    quick = ["--max-trials", "3", "--head-epochs", "1", "--fine-tune-epochs", "1", "--trainable-layers", "0", "6"]
    quick += ["--objective", "val_sensitivity_at_95_specificity"]
    printed = run_in(copy, ("tune", [*data, "--output", found, *quick]))
    assert "3 trials, 0 failures" in printed
    search = json.loads((tmp_path / "found" / "search.json").read_text())
    measured = json.loads((tmp_path / "found" / "best" / "metrics.json").read_text())["val"]
    assert search["best"]["score"] == pytest.approx(measured["sensitivity_at_95_specificity"], abs=1e-6)
    assert "validation sensitivity at 95 specificity" in (tmp_path / "found" / "report.html").read_text()
    best = json.loads((tmp_path / "found" / "best" / "config.json").read_text())
    assert [best[name] for name in ("head", "pooling", "vary", "loss")] == ["norm_gelu", "attention", "dark", "focal"]


@pytest.mark.slow
def test_every_command_takes_them_on_a_network_of_ones_own(copy, tmp_path):
    tables: dict = {"BACKBONES": {}, "HEADS": {}, "POOLINGS": {}, "AUGMENTATIONS": {}, "LOSSES": {}, "METRICS": {}}
    exec(next(example for example in EXAMPLES if "def tiny" in example), tables | {"keras": keras})
    tables["BACKBONES"]["tiny"](32).save(tmp_path / "mine.keras")
    photos, run, found, cache = (str(tmp_path / name) for name in ("photos", "run", "found", "cache"))
    data = ["--data", photos, "--cache-dir", cache, "--backbone", str(tmp_path / "mine.keras"), *OWN]
    few = ["--head-epochs", "2", "--trainable-layers", "2", "--fine-tune-epochs", "1"]
    search = ["--head-epochs", "1", "--trainable-layers", "0", "2", "--fine-tune-epochs", "1", "--max-trials", "4"]
    printed = run_in(
        copy,
        ("train", [*data, "--output", run, *few]),
        ("evaluate", [run, "--cache-dir", cache]),
        ("predict", [run, photos]),
        ("export", [run, "--format", "litert", "onnx", "--cache-dir", cache]),
        ("tune", [*data, "--output", found, *search, "--objective", "val_mcc"]),
        ("predict", [found, photos]),
    )
    assert "could not be made" not in printed
    assert "identical to metrics.json" in printed
    assert printed.count("40 pictures in") == 2
    assert "4 trials, 0 failures" in printed
    metrics = json.loads((tmp_path / "run" / "metrics.json").read_text())
    assert -1 <= metrics["test"]["mcc"] <= 1
    report = (tmp_path / "run" / "report.html").read_text()
    assert "mcc" in report
    assert "Grad-CAM" in report
    assert "| mcc | " in (tmp_path / "run" / "MODEL_CARD.md").read_text()
    stored = [path.read_text() for path in Path(cache).glob("store/*/entry.json")]
    assert any("dark" in entry for entry in stored)
    result = json.loads((tmp_path / "found" / "search.json").read_text())
    measured = json.loads((tmp_path / "found" / "best" / "metrics.json").read_text())["val"]
    assert result["best"]["score"] == pytest.approx(measured["mcc"], abs=1e-6)
    assert "validation mcc" in (tmp_path / "found" / "report.html").read_text()
    best = json.loads((tmp_path / "found" / "best" / "config.json").read_text())
    assert [best[name] for name in ("head", "pooling", "vary", "loss")] == ["norm_gelu", "attention", "dark", "focal"]


def test_ways_to_vary_are_for_pictures(examples, tmp_path):
    (tmp_path / "texts.csv").write_text("\n".join(["text,label", *(f"word {i},{'ab'[i % 2]}" for i in range(20))]))
    for vary in ("dark", "rotate"):
        config = TrainConfig.of(data=str(tmp_path / "texts.csv"), vary=vary, cache_dir=tmp_path / "cache")
        with pytest.raises(
            UsageError, match=r"^--vary is for pictures and recordings; texts are not varied\. Leave it out\.$"
        ):
            load_inputs(config)


@pytest.fixture
def examples(monkeypatch) -> None:
    """The examples in the tables of custom.py, in this process."""
    for table in ("HEADS", "POOLINGS", "AUGMENTATIONS", "LOSSES", "METRICS", "BACKBONES"):
        monkeypatch.setattr(custom, table, {})
    names = vars(custom).copy()
    exec("\n\n".join(EXAMPLES), names)


def test_the_names_that_flags_offer_are_those_of_the_tables():
    assert CHOICES["head"].names == tuple(HEADS)
    assert set(CHOICES["pooling"].names) == {name for family in FAMILIES.values() for name in family.pooling}
    assert CHOICES["vary"].names == tuple(POLICIES | OF_SOUNDS)
    assert (IMAGE.policies, SOUND.policies) == (tuple(POLICIES), tuple(OF_SOUNDS))


def test_mixing_pictures_is_no_way_to_vary_one():
    with pytest.raises(UsageError, match=r"^--vary must be one of mild, flip, .*; received 'mixup'\.$"):
        find_custom("vary", "mixup")


@pytest.mark.parametrize("setting", CHOICES)
def test_a_name_that_is_nowhere_is_told_at_once(setting, examples):
    with pytest.raises(UsageError) as error:
        load_inputs(TrainConfig.of(**{setting: "qq"}))
    own = list(vars(custom)[CHOICES[setting].table])
    names, asked = CHOICES[setting].names, f"--{setting}"
    if setting == "vary":  # the data are pictures
        names, asked = IMAGE.policies, "--vary for pictures"
    assert str(error.value) == f"{asked} must be one of {', '.join([*names, *own])}; received 'qq'."


def test_an_own_head_starts_alike_each_time_and_is_not_solved(examples):
    first, second = (build_head(6, MULTICLASS, 3, (4,), 0.5, seed=1, head="norm_gelu") for _ in range(2))
    for mine, other in zip(first.get_weights(), second.get_weights(), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert [type(layer).__name__ for layer in first.layers] == ["LayerNormalization", "Dropout", "Dense", "Dense"]
    assert not is_linear(first)
    assert is_linear(build_head(6, MULTICLASS, 3))


def test_a_layer_that_changes_features_without_weights_is_not_solved_around(monkeypatch):
    monkeypatch.setitem(custom.HEADS, "unit", lambda units, dropout, seed: [keras.layers.UnitNormalization()])
    assert not is_linear(build_head(6, BINARY, 2, head="unit"))


def test_the_focal_loss_is_that_of_keras(examples):
    targets = np.eye(3, dtype=np.float32)[[0, 1, 2, 1]]
    probabilities = np.random.default_rng(0).dirichlet(np.ones(3), 4).astype(np.float32)
    task = MULTICLASS.with_loss("focal")
    assert MULTICLASS.with_loss("cross_entropy") == MULTICLASS
    expected = 3 * keras.losses.binary_focal_crossentropy(targets, probabilities, gamma=2.0)
    np.testing.assert_allclose(task.losses(targets, probabilities), expected, rtol=1e-4)


@pytest.mark.parametrize(
    ("table", "part", "flags", "message"),
    [
        ("HEADS", lambda units, dropout, seed: keras.layers.Dense(4), {"head": "broken"}, r"--head broken .*TypeError"),
        ("HEADS", lambda units: [], {"head": "broken"}, r"--head broken of custom.py failed \(TypeError: .*Correct it"),
        ("POOLINGS", lambda: 1 / 0, {"pooling": "broken"}, r"--pooling broken .*TypeError"),
        (
            "AUGMENTATIONS",
            lambda pictures, random: pictures[:, 1:],
            {"vary": "broken"},
            r"returns the shape \(2, 31, 32",
        ),
        ("AUGMENTATIONS", lambda pictures, random: 1 / 0, {"vary": "broken"}, r"--vary broken .*ZeroDivisionError"),
        (
            "LOSSES",
            lambda targets, probabilities: 0 * targets,
            {"loss": "broken"},
            r"--loss broken .*returns the shape",
        ),
        ("METRICS", lambda answers: "good", {}, r"The metric 'broken' of custom.py failed \(ValueError"),
    ],
)
def test_a_part_that_fails_is_named_before_anything_is_computed(
    examples, tmp_path, monkeypatch, table, part, flags, message
):
    monkeypatch.setitem(vars(custom)[table], "broken", part)
    draw_photos(tmp_path / "photos", ("cat", "dog"), 4)
    places = {"data": str(tmp_path / "photos"), "cache_dir": tmp_path / "cache", "backbone": small_network(tmp_path)}
    with pytest.raises((UsageError, RunError), match=message):
        build_frozen(load_inputs(TrainConfig.of(**places, image_size=32, **flags)))


def test_a_pooling_with_weights_is_refused_for_texts(examples, monkeypatch):
    class Scaled(keras.layers.Layer):
        def build(self, shapes):
            self.scale = self.add_weight(shape=())

        def call(self, inputs):
            return self.scale * inputs[0][:, 0]

    monkeypatch.setitem(custom.POOLINGS, "scaled", Scaled)
    about = {"image_size": 16, "task": MULTICLASS, "num_classes": 3}
    with pytest.raises(UsageError, match="--pooling scaled has weights, and these are for feature maps"):
        build_classifier(find("minilm"), weights="none", pooling="scaled", **about)


def test_a_metric_that_fails_is_named(examples, monkeypatch):
    answers = MULTICLASS.answers(np.eye(3, dtype=np.float32), np.eye(3, dtype=np.float32))
    assert all_metrics()["mcc"].compute(answers) == 1
    monkeypatch.setitem(custom.METRICS, "undefined", lambda answers: np.float64("nan"))
    assert all_metrics()["undefined"].compute(answers) is None
    monkeypatch.setitem(custom.METRICS, "broken", lambda answers: 1 / 0)
    with pytest.raises(RunError, match=r"The metric 'broken' of custom.py failed \(ZeroDivisionError"):
        all_metrics()["broken"].compute(answers)


def test_a_run_goes_on_only_with_the_file_that_it_was_begun_with(examples, tmp_path, monkeypatch):
    draw_photos(tmp_path / "photos", ("cat", "dog"), 6)
    config = TrainConfig.of(data=str(tmp_path / "photos"), cache_dir=tmp_path / "cache", image_size=32)
    plain, own = load_inputs(config), load_inputs(config.replace(head="norm_gelu"))
    before = inputs_digest(plain), inputs_digest(own)
    monkeypatch.setattr(custom_parts, "custom_file", lambda: CustomFile(custom, "changed"))
    monkeypatch.setattr("training.inputs.custom_file", custom_parts.custom_file)
    assert inputs_digest(plain) == before[0]
    assert inputs_digest(own) != before[1]


def test_a_file_that_cannot_be_imported_is_a_sentence(monkeypatch):
    custom_file.cache_clear()
    monkeypatch.setattr(custom_parts, "FILE", "tests.no_such_file.py")
    try:
        with pytest.raises(UsageError, match=r"cannot be imported \(ModuleNotFoundError: .*\). Correct it."):
            find_custom("head", "mine")
    finally:
        custom_file.cache_clear()


@pytest.mark.parametrize("policy", POLICIES)
def test_a_picture_is_varied_alike_in_any_batch_and_stays_a_picture(policy):
    vary = POLICIES[policy]
    pictures = np.random.default_rng(0).uniform(0, 255, (6, 16, 24, 3)).astype(np.float32)
    draws = variation(vary, 0, 1, 6).draws
    varied = vary.apply(pictures, draws).numpy()
    assert varied.shape == pictures.shape
    assert varied.min() >= 0
    assert varied.max() <= 255
    assert not np.allclose(varied, pictures, atol=1)
    np.testing.assert_allclose(vary.apply(pictures[2:4], draws[2:4]), varied[2:4], atol=1e-3)


def test_flips_turn_pictures_and_what_is_medical_does_not():
    ramp = np.zeros((40, 16, 16, 3), np.float32) + np.arange(16, dtype=np.float32)[:, None]  # brighter to the right
    draws = np.random.default_rng(0).random((40, CUSTOM_DRAWS), np.float32)

    def rising(policy: str) -> float:
        varied = POLICIES[policy].apply(10 * ramp, draws).numpy()
        return float((varied[..., 10:, :].mean(axis=(1, 2, 3)) > varied[..., :6, :].mean(axis=(1, 2, 3))).mean())

    assert 0.2 < rising("flip") < 0.8
    assert rising("medical") == 1
    upright = 10 * ramp.transpose(0, 2, 1, 3)
    for policy, turns in (("vertical", True), ("flip", False)):
        varied = POLICIES[policy].apply(upright, draws).numpy()
        down = (varied[:, 10:].mean(axis=(1, 2, 3)) > varied[:, :6].mean(axis=(1, 2, 3))).mean()
        assert (0.2 < down < 0.8) == turns
