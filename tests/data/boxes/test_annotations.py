"""Annotations in four forms become the same boxes, and what is broken in them is set aside by name and reason."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from app.config import TrainConfig
from app.errors import UsageError
from data.boxes.annotated import FRACTIONS, Annotated, Box, MisfitError, fit_boxes
from data.boxes.targets import encode, frames, to_pixels
from data.images.decode import decode_picture
from data.prepare import prepare_data
from data.sources import LINK_OUT, load_source
from tests.conftest import make_picture
from tests.data.boxes.forms import CAT, SIZE, WANTED, as_coco, as_csv, as_voc, as_yolo, draw


@pytest.mark.parametrize("form", [as_coco, as_yolo, as_voc, as_csv])
def test_every_form_gives_the_same_boxes(tmp_path, form):
    source = load_source(form(tmp_path / "data"), tmp_path)
    assert source.has_boxes
    assert source.set_aside == []
    found = {each.path.name: each for each in source.examples}
    assert found.keys() == WANTED.keys()
    for name, wanted in WANTED.items():
        boxes = found[name].boxes
        assert boxes.size == SIZE
        assert list(boxes.labels) == [label for label, _ in wanted]
        np.testing.assert_allclose(np.reshape(boxes.corners, (-1, 4)), np.reshape([box for _, box in wanted], (-1, 4)))
        assert found[name].labels == tuple(sorted({label for label, _ in wanted}))


BROKEN = {
    "outside": ((70, 0, 80, 10), "is outside the picture"),
    "no width": ((5, 5, 5, 20), "has no area"),
    "turned around": ((20, 5, 5, 20), "has no area"),
    "tiny": ((59.8, 5, 80, 20), "is smaller than half a pixel"),
    "text": (("a", 0, 1, 1), "is not four numbers: a, 0, 1, 1"),
    "NaN": ((float("nan"), 0, 1, 1), "is not four numbers: nan, 0, 1, 1"),
    "infinite": ((0, 0, float("inf"), 1), "is not four numbers: 0, 0, inf, 1"),
    "huge": ((10**400, 0, 1, 1), f"is not four numbers: {str(10**400)[:60]}"),
    "three": ((0, 0, 1), "is not four numbers: 0, 0, 1"),
    "nothing": ((), "is not four numbers: "),
    "none": ((None, 0, 1, 1), "is not four numbers: None, 0, 1, 1"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_box_is_named_with_its_reason(name):
    corners, reason = BROKEN[name]
    boxes, reasons = fit_boxes(Annotated(Path("a.jpg"), [Box("cat", CAT[1]), Box("cat", corners)]), (*SIZE, 1))
    assert boxes.corners == (CAT[1],)
    assert reasons == [f"box 2 {reason}"]


@pytest.mark.parametrize("label", [None, "", "  "])
def test_a_box_without_a_class_is_named(label):
    assert fit_boxes(Annotated(Path("a.jpg"), [Box(label, CAT[1])]), (*SIZE, 1))[1] == ["box 1 has an unknown class"]


def test_a_box_that_crosses_the_border_is_cut():
    boxes, reasons = fit_boxes(Annotated(Path("a.jpg"), [Box("cat", (-5, 30, 100, 90))]), (*SIZE, 1))
    assert boxes.corners == ((0.0, 30.0, 60.0, 40.0),)
    assert reasons == []


@pytest.mark.parametrize("orientation", range(1, 9))
def test_boxes_turn_with_their_picture(tmp_path, orientation):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[5:25, 10:30] = 255
    picture, exif = Image.fromarray(pixels), Image.Exif()
    exif[0x0112] = orientation
    picture.save(tmp_path / "a.png", exif=exif)
    (tmp_path / "boxes.csv").write_text("path,label,x1,y1,x2,y2\na.png,cat,10,5,30,25\n")
    (example,) = load_source(str(tmp_path / "boxes.csv"), tmp_path).examples
    places = frames(np.array([example.boxes.size]), 60, "pad")
    (target,) = encode([example], ["cat"], places)
    read = decode_picture(example.path.read_bytes(), 60, "pad")[..., 0] > 128
    rows, columns = np.flatnonzero(read.any(axis=1)), np.flatnonzero(read.any(axis=0))
    seen = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    np.testing.assert_allclose(target[0, :4] * 60, seen, atol=0.01)


def test_boxes_measured_in_the_upright_picture_stay():
    upright = Annotated(Path("a.jpg"), [Box("cat", (1, 2, 3, 4))], size=(40, 60))
    assert fit_boxes(upright, (60, 40, 6))[0].corners == ((1.0, 2.0, 3.0, 4.0),)
    stored = upright._replace(size=(60, 40))
    assert fit_boxes(stored, (60, 40, 6))[0].corners == ((36.0, 1.0, 38.0, 3.0),)


@pytest.mark.parametrize("orientation", range(2, 9))
def test_fractions_are_of_the_upright_picture_as_in_the_tools_of_yolo(orientation):
    annotated = Annotated(Path("a.jpg"), [Box("cat", (0.25, 0.5, 0.5, 0.75))], size=FRACTIONS)
    width, height = SIZE if orientation < 5 else SIZE[::-1]
    boxes, _ = fit_boxes(annotated, (*SIZE, orientation))
    assert boxes.corners == ((width / 4, height / 2, width / 2, height * 3 / 4),)
    assert boxes.size == (width, height)


def test_boxes_of_the_same_picture_at_another_size_are_scaled():
    boxes, _ = fit_boxes(Annotated(Path("a.jpg"), [Box("cat", (20, 10, 60, 50))], size=(120, 80)), (*SIZE, 1))
    assert boxes.corners == (CAT[1],)


def test_boxes_of_another_picture_set_it_aside():
    with pytest.raises(MisfitError, match=r"^annotated as 100 x 100 pixels, and the picture has 60 x 40$"):
        fit_boxes(Annotated(Path("a.jpg"), [Box("cat", CAT[1])], size=(100, 100)), (*SIZE, 1))


def test_fractions_are_of_the_picture():
    boxes, _ = fit_boxes(Annotated(Path("a.jpg"), [Box("cat", (0.5, 0.5, 1, 1))], size=FRACTIONS), (*SIZE, 1))
    assert boxes.corners == ((30.0, 20.0, 60.0, 40.0),)


def test_crowds_and_difficult_boxes_are_ignored(tmp_path):
    path = Path(as_coco(tmp_path / "coco"))
    content = json.loads(path.read_text())
    content["annotations"][1]["iscrowd"] = 1
    path.write_text(json.dumps(content))
    found = load_source(str(path), tmp_path).examples[0].boxes
    assert found.ignored == (False, True)
    voc = Path(as_voc(tmp_path / "voc"))
    file = voc / "Annotations" / "b.xml"
    file.write_text(file.read_text().replace("<bndbox>", "<difficult>1</difficult><bndbox>"))
    assert load_source(str(voc), tmp_path).examples[1].boxes.ignored == (True,)


def test_what_a_coco_file_lacks_is_named(tmp_path):
    path = Path(as_coco(tmp_path / "data"))
    content = json.loads(path.read_text())
    content["annotations"] += [
        {"image_id": "no such", "category_id": 7, "bbox": [0, 0, 1, 1]},
        {"image_id": "b.jpg", "category_id": 1, "bbox": [0, 0, 1, 1]},
        {"image_id": "b.jpg", "category_id": 7},
        {"image_id": "b.jpg", "category_id": 7, "bbox": "all"},
    ]
    path.write_text(json.dumps(content))
    assert [reason for _, reason in load_source(str(path), tmp_path).set_aside] == [
        "annotation 4 names a picture that is not listed",
        "box 2 has an unknown class",
        "box 3 is not four numbers: ",
        "box 4 is not four numbers: ",
    ]


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        ("{", "must be a COCO file; it cannot be read: Expecting property name"),
        ("[]", "must be a COCO file with the lists images, annotations, categories"),
        ('{"images": [1], "annotations": [], "categories": []}', "must be a COCO file with the lists"),
        ('{"images": [], "annotations": [], "categories": []}', "must have pictures with boxes"),
    ],
)
def test_a_file_that_is_no_coco_file_is_refused(tmp_path, content, problem):
    (tmp_path / "boxes.json").write_text(content)
    with pytest.raises(UsageError, match=problem):
        load_source(str(tmp_path / "boxes.json"), tmp_path)


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(UsageError, match=r"nothing\.json', and there is no such file\.$"):
        load_source(str(tmp_path / "nothing.json"), tmp_path)


def test_yolo_takes_splits_outlines_and_what_roboflow_writes(tmp_path):
    for split in ("train", "valid"):
        draw(tmp_path / split / "images")
        (tmp_path / split / "labels").mkdir()
        lines = ["1 0.5 0.5 1 0.5 0.75 1", "0 0.5", "x", *(f"{label} 0.5 0.5 0.1 0.1" for label in ("5", "nan", "inf"))]
        (tmp_path / split / "labels" / "a.txt").write_text("\n".join(lines))
    (tmp_path / "data.yaml").write_text("train: ../train/images\nval: ../valid/images\nnames: {0: cat, 1: dog}\n")
    source = load_source(str(tmp_path), tmp_path)
    first = source.examples[0]
    assert first.boxes.corners == ((30.0, 20.0, 60.0, 40.0),)
    assert [each.split for each in source.examples] == ["train"] * 3 + ["val"] * 3
    reasons = [reason for path, reason in source.set_aside if "train" in path.parts]
    assert reasons[:2] == ["box 2 is not four numbers: 0.5", "box 3 is not four numbers: x"]
    assert reasons[2:] == [f"box {number} has an unknown class" for number in (4, 5, 6)]


def test_a_damaged_xml_file_is_set_aside(tmp_path):
    root = Path(as_voc(tmp_path / "voc"))
    (root / "Annotations" / "b.xml").write_text("<annotation>")
    (root / "Annotations" / "lost.xml").write_text("<annotation></annotation>")
    found = {path.name: reason for path, reason in load_source(str(root), tmp_path).set_aside}
    assert found["lost.xml"] == "has no picture beside it"
    assert found["b.xml"].startswith("is damaged")
    (root / "Annotations" / "b.xml").write_text('<?xml version="1.0" encoding="foo"?><annotation></annotation>')
    source = load_source(str(root), tmp_path)
    assert {path.name: reason for path, reason in source.set_aside}["b.xml"] == "is damaged: unknown encoding: foo"
    assert "b.jpg" not in {each.path.name for each in source.examples}  # not learnt as a picture without boxes


@pytest.mark.parametrize("form", ["{}", "{} 1", "{}.jpg"])
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_the_lists_of_voc_name_the_splits(tmp_path, form, encoding):
    root = Path(as_voc(tmp_path / "voc"))
    for picture, name in (("a", "a"), ("b", "photo 16"), ("c", "c")):
        for path in root.rglob(f"{picture}.*"):
            path.rename(path.with_stem(name))
    lists = root / "ImageSets" / "Main"
    lists.mkdir(parents=True, exist_ok=True)
    for split, name in (("train", "a"), ("val", "photo 16"), ("test", "c")):
        text = name if form == "{} 1" and " " in name else form.format(name)
        (lists / f"{split}.txt").write_text(f"{text}\n", encoding=encoding)
    source = load_source(str(root), tmp_path)
    assert {each.path.stem: each.split for each in source.examples} == {"a": "train", "photo 16": "val", "c": "test"}
    (lists / "test.txt").write_text("c\ngone\n", encoding=encoding)
    reason = "names 1 picture that is not there, the first 'gone'"
    assert load_source(str(root), tmp_path).set_aside == [(lists / "test.txt", reason)]


def test_a_picture_whose_boxes_cannot_be_read_is_not_learnt_as_one_without(tmp_path):
    root = Path(as_yolo(tmp_path / "yolo"))
    (root / "labels" / "a.txt").write_text((root / "labels" / "a.txt").read_text(), encoding="utf-16")
    (tmp_path / "secret.txt").write_text("password hunter2")
    (root / "labels" / "b.txt").unlink()
    (root / "labels" / "b.txt").symlink_to(tmp_path / "secret.txt")
    (root / "labels" / "c.txt").write_bytes(b"0 \xff")
    source = load_source(str(root), tmp_path)
    assert [each.path.name for each in source.examples] == ["a.jpg"]
    assert {path.name: reason for path, reason in source.set_aside} == {
        "b.jpg": f"its boxes cannot be read: {LINK_OUT}",
        "c.jpg": "its boxes cannot be read: 'c.txt' is not a text",
    }


def test_names_of_classes_are_texts(tmp_path):
    root = Path(as_yolo(tmp_path / "yolo"))
    (root / "data.yaml").write_text("names: [cat, [dog, [dog, dog]]]\n")
    with pytest.raises(UsageError, match="must name the classes"):
        load_source(str(root), tmp_path)


def test_ids_of_coco_may_be_whole_numbers_in_floats_but_not_be_there_twice(tmp_path):
    path = Path(as_coco(tmp_path / "data"))
    content = json.loads(path.read_text())
    for number, image in enumerate(content["images"]):
        for each in content["annotations"]:
            each["image_id"] = float(number) if each["image_id"] == image["id"] else each["image_id"]
        image["id"] = number
    path.write_text(json.dumps(content))
    assert [len(each.boxes.corners) for each in load_source(str(path), tmp_path).examples] == [2, 1, 0]
    content["annotations"][0]["bbox"] = [10**400, 0, 1.5, 2]
    path.write_text(json.dumps(content))
    ((_, reason),) = load_source(str(path), tmp_path).set_aside
    assert reason.startswith("box 1 is not four numbers: 1000")
    content["images"][1]["id"] = 0
    path.write_text(json.dumps(content))
    with pytest.raises(UsageError, match="must give each image an id of its own; 0 is there twice"):
        load_source(str(path), tmp_path)


def test_a_table_of_boxes_may_come_from_windows(tmp_path):
    path = Path(as_csv(tmp_path / "data"))
    lines = path.read_text().splitlines()
    first, second = (f".\\{lines[1]}", f"./{lines[2]}")
    path.write_text("\n".join([lines[0], first, second, *lines[3:]]), encoding="utf-16")
    source = load_source(str(path), tmp_path)
    assert source.has_boxes
    assert {each.path.name: len(each.boxes.corners) for each in source.examples} == {"a.jpg": 2, "b.jpg": 1, "c.jpg": 0}


def test_what_leads_out_of_the_folder_is_set_aside_whatever_the_cache_holds(tmp_path):
    path = Path(as_coco(tmp_path / "coco"))
    make_picture(9, size=SIZE).save(tmp_path / "out.jpg")
    content = json.loads(path.read_text())
    for image, name in zip(content["images"], ("images/a.jpg", "images/b.jpg", "../out.jpg"), strict=True):
        image["file_name"] = name
    path.write_text(json.dumps(content))
    config = TrainConfig.of(
        data=str(path), image_size=32, val_fraction=0, test_fraction=0, cache_dir=tmp_path / "cache"
    )
    counts = []
    for outside in (False, True, False):
        source = load_source(str(path), config.run.cache_dir, outside)
        counts.append(len(prepare_data(source, config).examples))
    assert counts[0] == counts[2] == counts[1] - 1


def test_pixels_come_back_from_fractions_of_the_input():
    for resize in ("pad", "stretch"):
        (frame,) = frames(np.array([[640, 480]]), 320, resize)
        scale, start = np.tile(frame[:2], 2), np.tile(frame[2:4], 2)
        box = np.array([10.0, 20.0, 630.0, 470.0])
        np.testing.assert_allclose(to_pixels(box * scale + start, frame), box)
        np.testing.assert_allclose(to_pixels(np.array([-1.0, -1.0, 2.0, 2.0]), frame), [0, 0, 640, 480])
