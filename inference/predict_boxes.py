"""Finds, draws and writes boxes for picture files, in batches, so that any number of files fits into memory."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from app.files import write_json, written_aside
from app.terminal import progress_bar, share_text, show_stage
from data.boxes.targets import frames, to_pixels
from data.images.decode import read_orientation
from data.sources import printable
from inference.answer_table import csv_writer
from inference.answering import AnsweringModel
from inference.batches import Summary, check_readable, computed_batches, show_rate
from inference.drawing import COLOURS, Drawn, draw_boxes, open_upright
from inference.files import Batch, FoundFile
from tasks.detection import Detection

LONGEST_NAME = 150
"""Most bytes of a picture's name that its drawn copy keeps."""
COLUMNS = ("path", "predicted", "probability", "status", "reason", "x1", "y1", "x2", "y2")


def boxes_of(network: AnsweringModel, outputs: np.ndarray) -> list[np.ndarray]:
    """Returns the boxes of each picture that reach the model's thresholds, (boxes, 6): corners as fractions of the
    network's input, probability, number of the class."""
    task = network.task
    if not isinstance(task, Detection):
        raise ValueError("the model gives classes, and no boxes")
    return task.chosen(outputs)


def predict_boxes(
    network: AnsweringModel,
    files: Sequence[FoundFile],
    *,
    csv: Path | None = None,
    coco: Path | None = None,
    draw: Path | None = None,
    on_answers: Callable[[pd.DataFrame], None] = lambda _: None,
) -> None:
    """Finds boxes in every file; shows them, and writes them to a CSV file and on copies of the pictures.

    Args:
        network: the model that answers.
        files: from `inference.files.find_files`.
        csv: file for all boxes: a row per box with its corners in pixels of the upright picture; a picture without
            boxes has one row with a status.
        coco: file for all boxes in the format of COCO, with probabilities as `score`.
        draw: folder for copies of the pictures with their boxes.
        on_answers: called with the rows of `csv`, batch by batch.

    Raises:
        UsageError: none of the files is a picture; the table with the reasons is shown and written anyway.
    """
    model = network.load()
    size, resize = (network.reader.description[name] for name in ("image_size", "resize"))

    def predict(batch: Batch) -> tuple[Batch, np.ndarray, list[np.ndarray]]:
        pictures = [file for file in batch.files if not file.reason]
        sizes = np.array([_upright_size(file) for file in pictures])
        if not pictures:
            return batch, sizes, []
        places = frames(sizes, size, resize)
        found = boxes_of(network, network.ask(model, batch.inputs)[0])
        boxes = [
            np.hstack([to_pixels(each[:, :4], place), each[:, 4:]]) for each, place in zip(found, places, strict=True)
        ]
        return batch, sizes, boxes

    summary = Summary(("file", "answer", "probability", "x1, y1, x2, y2"), _cells, lambda predicted: [predicted])
    categories = [{"id": number, "name": name} for number, name in enumerate(network.class_names, 1)]
    content: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": categories}
    pictures = 0
    started = time.perf_counter()
    with (
        csv_writer(csv) as write,
        progress_bar("predict", len(files)) as advance,
        computed_batches(files, network.reader, predict) as computed,
    ):
        for batch, sizes, boxes in computed:
            table = boxes_table(batch.files, boxes, network.class_names)
            write(table)
            on_answers(table)
            if coco is not None:
                _add_coco(content, coco.parent, batch.files, sizes, boxes)
            if draw is not None:
                _draw_all(draw, batch.files, boxes, network.class_names)
            summary.add(table)
            pictures += len(boxes)
            advance(len(batch.files))
    if coco is not None:
        write_json(coco, content)
    seconds = time.perf_counter() - started
    summary.show("row", "rows")
    show_rate(pictures, seconds, network.kind)
    for name, place in (("table", csv), ("boxes", coco), ("pictures", draw)):
        if place is not None:
            show_stage(name, str(place))
    check_readable(pictures, files, network.kind, summary.reason)


def boxes_table(files: Sequence[FoundFile], boxes: Sequence[np.ndarray], class_names: Sequence[str]) -> pd.DataFrame:
    """Makes a table with `COLUMNS`, a row per box.

    Args:
        files: the files, in order.
        boxes: boxes of the readable files, (boxes, 6) each: corners in pixels, probability, number of the class.
        class_names: names in the order of their numbers.
    """
    rows: list[Sequence[object]] = []
    of_pictures = iter(boxes)
    for file in files:
        path = printable(str(file.path))
        if file.reason:
            rows.append((path, "", np.nan, "unreadable", file.reason, *[np.nan] * 4))
            continue
        found = next(of_pictures)
        rows += [
            (path, class_names[int(box[5])], float(box[4]), "found", "", *box[:4].round(2).tolist()) for box in found
        ]
        if not len(found):
            rows.append((path, "", np.nan, "nothing found", "", *[np.nan] * 4))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _add_coco(
    content: dict[str, list[dict[str, Any]]],
    folder: Path,
    files: Sequence[FoundFile],
    sizes: np.ndarray,
    boxes: Sequence[np.ndarray],
) -> None:
    """Adds pictures and their boxes to the content of a COCO file in a folder."""
    pictures = [file for file in files if not file.reason]
    for file, (width, height), found in zip(pictures, sizes.tolist(), boxes, strict=True):
        number, path = len(content["images"]) + 1, file.path.absolute()
        name = path.relative_to(folder.absolute()) if path.is_relative_to(folder.absolute()) else path
        content["images"].append(
            {"id": number, "file_name": printable(name.as_posix()), "width": width, "height": height}
        )
        for x1, y1, x2, y2, score, label in found.tolist():
            content["annotations"].append(
                {
                    "id": len(content["annotations"]) + 1,
                    "image_id": number,
                    "category_id": int(label) + 1,
                    "bbox": [round(each, 2) for each in (x1, y1, x2 - x1, y2 - y1)],
                    "area": round((x2 - x1) * (y2 - y1), 2),
                    "iscrowd": 0,
                    "score": round(score, 6),
                }
            )


def _upright_size(file: FoundFile) -> tuple[int, int]:
    width, height, orientation = read_orientation(file.place) or (1, 1, 1)
    return (height, width) if orientation >= 5 else (width, height)


def _draw_all(folder: Path, files: Sequence[FoundFile], boxes: Sequence[np.ndarray], names: Sequence[str]) -> None:
    """Draws boxes on copies; files with the same name get numbers."""
    folder.mkdir(parents=True, exist_ok=True)
    of_pictures = iter(boxes)
    for file in files:
        if file.reason:
            continue
        drawn = [
            Drawn(box[:4], COLOURS[int(box[5]) % len(COLOURS)], f"{names[int(box[5])]} {box[4]:.0%}")
            for box in next(of_pictures)
        ]
        upright = draw_boxes(open_upright(file.path), drawn)
        name, number = file.path.stem.encode(errors="replace")[:LONGEST_NAME].decode(errors="ignore"), 1
        path = folder / f"{name}.png"
        while path.exists():
            number += 1
            path = folder / f"{name}_{number}.png"
        with written_aside(path) as temporary:
            upright.save(temporary, "PNG")


def _cells(row: pd.Series) -> tuple[str, ...]:
    """Returns file, answer, probability and corners as text."""
    if row["status"] != "found":
        return row["path"], row["status"], "", row["reason"]
    corners = ", ".join(f"{row[name]:.0f}" for name in ("x1", "y1", "x2", "y2"))
    return row["path"], row["predicted"], share_text(row["probability"]), corners
