"""Files of a run folder are complete or absent, and say what they should."""

import json
import math

import pytest

from reports import writer
from tasks.answers import label_texts


def test_a_file_is_replaced_only_when_complete(tmp_path):
    path = tmp_path / "metrics.json"
    writer.write_json(path, {"accuracy": 0.5})
    with pytest.raises(ValueError, match="not JSON compliant"):
        writer.write_json(path, {"accuracy": math.nan})
    assert json.loads(path.read_text()) == {"accuracy": 0.5}
    assert list(tmp_path.iterdir()) == [path]


def test_several_labels_are_joined():
    assert label_texts([[True, False, True], [False, False, False]], ("a", "b", "c")) == ["a|c", ""]
