"""The model card beside every export: classes, inputs, measured accuracy, and the licence of the weights."""

import re
import textwrap
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2
import tensorflow as tf

from app.escapes import visible
from app.files import write_text
from data.images.decode import MAX_PIXELS
from inference.load import TrainedRun
from inference.run_record import measured_split
from models import backbones

CARD_FILE = "MODEL_CARD.md"
TEMPLATE = "model_card.md.j2"

IMAGENET_TERMS = (
    "ImageNet, from which such weights are learnt, is given out for non-commercial research and education only; "
    "whether that binds what was learnt from it is not settled."
)


def weights_licence(backbone: str, weights: str) -> str:
    """Returns the licence, as far as it is known, of the weights that a run started from: 'imagenet', 'none' or a
    file."""
    if weights == "none":
        return "None but your own: the network was trained from random weights."
    if weights != "imagenet":
        return (
            f"Your own: they came from the file {_as_code(Path(weights).name)}, and have the licence that you got it "
            f"under. {IMAGENET_TERMS}"
        )
    return f"{backbones.find_of_run(backbone).family.licence}. {IMAGENET_TERMS}"


def write_card(
    path: Path,
    format_name: str,
    run: TrainedRun,
    metrics: dict[str, Any],
    parity: dict[str, str],
    inputs: Sequence[tf.TensorSpec],
) -> None:
    """Writes the card of one export.

    Args:
        path: of the card.
        format_name: of the export.
        run: the run.
        metrics: its `metrics.json`.
        parity: how far each route agrees with the model.
        inputs: of the export.
    """
    measured = measured_split(metrics)
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    environment.filters["code"] = _as_code
    shapes = {each.name: ", ".join(map(str, each.shape[1:])) for each in inputs}
    zeros = (
        f"{each.name} = np.zeros((1, {shapes[each.name]}), np.{each.dtype.name})  # put yours here" for each in inputs
    )
    text = environment.select_template([f"{run.kind.name}_card.md.j2", TEMPLATE]).render(
        format=format_name,
        run=run,
        config=run.config,
        data=metrics.get("data", {}),
        split=measured[0] if measured else None,
        measured=measured[1] if measured else None,
        parity=parity,
        inputs=inputs,
        takes=", ".join(f"`{each.name}`, {each.dtype.name} (n, {shapes[each.name]})" for each in inputs),
        zeros="\n".join(zeros),
        formats=run.kind.graph_reader().formats if run.kind.graph_reader else (),
        licence=textwrap.fill(weights_licence(run.config.model.backbone, run.config.model.weights), 110),
        most_pixels=MAX_PIXELS,
        versions={name: metadata.version(name) for name in ("tensorflow", "keras")},
    )
    write_text(path, text)


def _as_code(name: str) -> str:
    """Quotes a name for Markdown, between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", name)), default=0))
    padding = " " if "`" in name else ""
    return f"{fence}{padding}{visible(name)}{padding}{fence}"
