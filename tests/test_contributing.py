"""The steps of CONTRIBUTING.md name what is there."""

import importlib
import re
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parent.parent
TEXT = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
NAMES = {
    "models.backbones": ("TABLE", "FAMILIES"),
    "data.unpack": ("unpack_once",),
    "data.sources": ("SOURCES",),
    "config": ("TrainConfig",),
    "tuning.space": ("TuneConfig", "HYPERPARAMETERS", "search_space", "trial_config"),
    "inference.export": ("FORMATS",),
    "inference.class_function": ("ClassFunction",),
}


def test_every_file_is_there():
    paths = set(re.findall(r"\b(?:\w+/)+\w+\.py\b|\b[\w-]+\.(?:txt|py)\b", TEXT))
    assert len(paths) > 10
    assert [path for path in sorted(paths) if not (REPOSITORY / path).exists()] == []


@pytest.mark.parametrize(("module", "name"), [(module, name) for module, names in NAMES.items() for name in names])
def test_every_name_is_there(module, name):
    assert f"`{name}`" in TEXT
    assert hasattr(importlib.import_module(module), name)
