"""Writes pictures with boxes from TensorFlow Datasets as COCO files."""

import io
import json
from collections import defaultdict
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from data.unpack import ending_of, write_example

IGNORED = ("is_crowd", "is_difficult")
"""Features that mark boxes as neither learnt nor measured."""


class BoxKeys(NamedTuple):
    """Names of the features that hold the picture and the boxes of an example."""

    image: str
    boxes: str
    corners: str
    label: str


def keys_of(features: Any, form: type, usual: str = "") -> list[str]:
    """Returns the names of the features of a form; if one of them has the usual name, only that one."""
    found = [key for key, each in features.items() if isinstance(each, form)]
    return [usual] if usual in found else found


def find_keys(features: Any) -> BoxKeys | None:
    """Finds the features that hold boxes; None if there are none."""
    from tensorflow_datasets.core.features import BBoxFeature, ClassLabel, FeaturesDict, Image, Sequence

    images = keys_of(features, Image)
    for key, each in features.items():
        if not isinstance(each, Sequence) or not isinstance(each.feature, FeaturesDict) or len(images) != 1:
            continue
        corners = keys_of(each.feature, BBoxFeature)
        labels = keys_of(each.feature, ClassLabel, usual="label")
        if len(corners) == len(labels) == 1:
            return BoxKeys(images[0], key, corners[0], labels[0])
    return None


def write_coco(examples: Any, keys: BoxKeys, class_names: list[str], folder: Path) -> None:
    """Writes encoded pictures and an `instances.json` into a folder."""
    content: dict[str, list[dict[str, Any]]] = defaultdict(list)
    content["categories"] = [{"id": number, "name": name} for number, name in enumerate(class_names)]
    for number, example in enumerate(examples):
        encoded = example[keys.image]
        with Image.open(io.BytesIO(encoded)) as picture:
            width, height = picture.size
        name = write_example(folder / "images", number, encoded, ending_of(encoded))
        content["images"].append({"id": number, "file_name": f"images/{name}", "width": width, "height": height})
        boxes = example[keys.boxes]
        flags = [boxes[flag] for flag in IGNORED if flag in boxes]
        for row, (top, left, bottom, right) in enumerate(boxes[keys.corners].tolist()):
            label = int(boxes[keys.label][row])
            if label < 0:  # the label is not published
                continue
            content["annotations"].append(
                {
                    "image_id": number,
                    "category_id": label,
                    "bbox": [left * width, top * height, (right - left) * width, (bottom - top) * height],
                    "iscrowd": int(any(flag[row] for flag in flags)),
                }
            )
    (folder / "instances.json").write_text(json.dumps({"annotations": [], **content}), encoding="utf-8")
