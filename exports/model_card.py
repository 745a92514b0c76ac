"""The model card beside every export: classes, inputs, measured accuracy, and the licence of the weights."""

import re
import textwrap
from importlib import metadata
from pathlib import Path
from typing import Any

import jinja2

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
    return f"{backbones.find(backbone).family.licence}. {IMAGENET_TERMS}"


def write_card(path: Path, format_name: str, run: TrainedRun, metrics: dict[str, Any], parity: dict[str, str]) -> None:
    """Writes the card of one export; `parity` says of each route how far it agrees with the model."""
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
    text = environment.get_template(TEMPLATE).render(
        format=format_name,
        run=run,
        config=run.config,
        data=metrics.get("data", {}),
        split=measured[0] if measured else None,
        measured=measured[1] if measured else None,
        parity=parity,
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
