"""A folder is one of Pascal VOC if it has annotations, not for any XML file."""

from pathlib import Path

import pytest

from data.sources import load_source
from tests.data.boxes.forms import as_voc


@pytest.mark.parametrize("text", ["<x/>", "<project><annotation/></project>", "no XML", "", '<?xml encoding="foo"?>'])
def test_an_xml_file_beside_folders_of_classes_is_none_of_pascal_voc(make_folder, tmp_path, text):
    root = make_folder()
    (root / "readme.xml").write_text(text)
    assert not load_source(str(root), tmp_path).has_boxes


def test_one_annotation_makes_it_pascal_voc(tmp_path):
    root = Path(as_voc(tmp_path / "data"))
    (root / "Annotations" / "0.xml").write_text("<x/>")
    (root / "Annotations" / "a.xml").write_text("<annotation>")  # damaged
    source = load_source(str(root), tmp_path)
    assert [each.path.name for each in source.examples] == ["b.jpg", "c.jpg"]
