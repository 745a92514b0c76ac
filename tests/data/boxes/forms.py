"""The same pictures and boxes in each of the four forms of annotation."""

import json
from pathlib import Path

from tests.conftest import make_picture

SIZE = (60, 40)
CAT, DOG = ("cat", (10.0, 5.0, 30.0, 25.0)), ("dog", (0.0, 0.0, 12.0, 40.0))
WANTED = {"a.jpg": [CAT, DOG], "b.jpg": [CAT], "c.jpg": []}


def draw(folder: Path) -> None:
    folder.mkdir(parents=True)
    for number, name in enumerate(WANTED):
        make_picture(number, size=SIZE).save(folder / name)


def as_coco(root: Path) -> str:
    draw(root / "images")
    images = [{"id": name, "file_name": name, "width": 60, "height": 40} for name in WANTED]
    annotations = [
        {"image_id": name, "category_id": 7 if label == "cat" else 9, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for name, boxes in WANTED.items()
        for label, (x1, y1, x2, y2) in boxes
    ]
    categories = [{"id": 7, "name": "cat"}, {"id": 9, "name": "dog"}]
    path = root / "instances.json"
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
    return str(path)


def as_yolo(root: Path) -> str:
    draw(root / "images")
    (root / "labels").mkdir()
    (root / "data.yaml").write_text("names: [cat, dog]\n")
    for name, boxes in WANTED.items():
        lines = [
            f"{('cat', 'dog').index(label)} {(x1 + x2) / 120} {(y1 + y2) / 80} {(x2 - x1) / 60} {(y2 - y1) / 40}"
            for label, (x1, y1, x2, y2) in boxes
        ]
        if lines:
            (root / "labels" / name).with_suffix(".txt").write_text("\n".join(lines))
    return str(root)


def as_voc(root: Path) -> str:
    draw(root / "JPEGImages")
    (root / "Annotations").mkdir()
    for name, boxes in WANTED.items():
        objects = [
            f"<object><name>{label}</name><bndbox><xmin>{x1 + 1}</xmin><ymin>{y1 + 1}</ymin><xmax>{x2}</xmax>"
            f"<ymax>{y2}</ymax></bndbox></object>"
            for label, (x1, y1, x2, y2) in boxes
        ]
        text = f"<annotation><size><width>60</width><height>40</height></size>{''.join(objects)}</annotation>"
        (root / "Annotations" / name).with_suffix(".xml").write_text(text)
    return str(root)


def as_csv(root: Path) -> str:
    draw(root / "images")
    rows = ["path,label,x1,y1,x2,y2"]
    for name, boxes in WANTED.items():
        rows += [f"images/{name},{label},{','.join(map(str, corners))}" for label, corners in boxes]
        rows += [] if boxes else [f"images/{name},,,,,"]
    (root / "boxes.csv").write_text("\n".join(rows))
    return str(root / "boxes.csv")
