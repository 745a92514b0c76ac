"""Classes of other people's data sets become folders that stay in their place, are seen, and do not merge."""

import pytest

from data import folder
from data.unpack import folder_names, write_example


@pytest.mark.parametrize(
    ("class_name", "expected"),
    [
        ("cat", "cat"),
        ("a/b", "a_b"),
        ("a\\b", "a_b"),
        ("../../etc", "_.._.._etc"),
        (".", "_."),
        ("..", "_.."),
        (".hidden", "_.hidden"),
        ("", "_"),
        ("  ", "_"),
        ("line\nbreak", "line_break"),
        ("nul\0", "nul_"),
        ("Thumbs.db", "_Thumbs.db"),
        ("__MACOSX", "___MACOSX"),
        ("\ud800", "?"),
        ("猫 🐈", "猫 🐈"),
        ("n" * 5000, "n" * 200),
        ("é" * 5000, "é" * 100),
    ],
)
def test_a_class_name_becomes_a_folder_that_is_found(tmp_path, class_name, expected):
    names = folder_names([class_name, "other class"])
    assert names == [expected, "other class"]
    for number, name in enumerate(names):
        write_example(tmp_path / "data" / name, number, b"\x89PNG", ".png")
    assert [path.name for path in tmp_path.iterdir()] == ["data"]
    found = folder.load(str(tmp_path / "data"), tmp_path, outside=False).examples
    assert {(picture.labels[0], picture.path.name) for picture in found} == {
        (expected, "000000.png"),
        ("other class", "000001.png"),
    }


def test_names_that_become_equal_stay_apart():
    names = [
        "a/b",
        "a_b",
        "a\\b",
        "a_b_2",
        "A_B",
        "",
        " ",
        "cafe\u0301",
        "caf\u00e9",
        *(f"{'n' * 300}{i}" for i in "ab"),
    ]
    assert folder_names(names) == [
        *("a_b", "a_b_2", "a_b_3", "a_b_2_2", "A_B_4", "_", "__2", "cafe\u0301", "caf\u00e9_2"),
        *("n" * 200, "n" * 200 + "_2"),
    ]


def test_names_of_the_bundled_animals_stay_as_they_are():
    from data.images.animals import CLASS_NAMES

    assert folder_names(CLASS_NAMES) == list(CLASS_NAMES)
