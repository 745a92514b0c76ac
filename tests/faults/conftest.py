"""A small run that has every stage, and how it ends when nothing disturbs it."""

from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import draw_photos
from tests.faults.kills import STAGES, train


class Undisturbed(NamedTuple):
    """A run that nobody stopped."""

    flags: list
    """But for cache and output."""
    folder: Path
    times: dict[str, float]
    """When its stages began, seconds."""


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory) -> Undisturbed:
    root = tmp_path_factory.mktemp("undisturbed")
    draw_photos(root / "photos", ("cat", "dog", "owl"), 36, size=(400, 300))
    (root / "photos" / "cat" / "broken.jpg").write_bytes(b"no picture")
    flags = ["--data", root / "photos", "--image-size", "64", "--batch-size", "4", "--trainable-layers", "30"]
    flags += ["--head-epochs", "10", "--fine-tune-epochs", "3", "--dropout", "0.5", "--checkpoint-seconds", "0"]
    ended = train([*flags, "--cache-dir", root / "cache", "--output", root / "run"])
    assert ended.status == 0, ended.lines
    assert set(STAGES) <= set(ended.times)
    return Undisturbed(flags, root / "run", ended.times)
