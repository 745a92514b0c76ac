"""The model card of a run, and of each export: what it learnt from, how good it is, its limits, and its licence
(Mitchell et al., 2019)."""

import re
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jinja2
import tensorflow as tf

from app.escapes import visible
from app.files import read_json, write_text
from app.terminal import share_text
from app.wheels import installed_versions
from data.images.decode import MAX_PIXELS
from inference.load import TrainedRun
from inference.run_record import chosen_by, is_number, measured_split
from models import backbones
from reports.decision import is_given
from reports.page import method_name
from tasks.metrics import all_metrics, share_interval

CARD_FILE = "MODEL_CARD.md"
TEMPLATE = "model_card.md.j2"
MOST_CLASSES = 20
"""Classes of which a card has figures; `per_class.csv` has those of all."""

IMAGENET_TERMS = (
    "ImageNet, from which such weights are learnt, is given out for non-commercial research and education only; "
    "whether that binds what was learnt from it is not settled."
)


def weights_licence(backbone: str, weights: str) -> str:
    """Returns the licence, as far as it is known, of the weights that a run started from: 'imagenet', 'none' or a
    file."""
    if weights == "none":
        return "None but your own: the network was trained from random weights."
    row = backbones.find_of_run(backbone)
    licence = row.family.licence
    if weights != "imagenet":
        file = _as_code(Path(weights).name)
        licence = f"Your own: they came from the file {file}, and have the licence that you got it under"
    return f"{licence}. {IMAGENET_TERMS}" if row.kind == "image" or row.picture_size else f"{licence}."


class Export(NamedTuple):
    """Additions to the card of an export."""

    format: str
    parity: Mapping[str, str]
    """Agreement of each route with the model."""
    inputs: Sequence[tf.TensorSpec]


def write_card(path: Path, run: TrainedRun, metrics: dict[str, Any], export: Export | None = None) -> None:
    """Writes the card of a run, or of one export of it.

    Args:
        path: path of the card.
        run: the run.
        metrics: its `metrics.json`.
        export: None for the run itself.
    """
    measured, flag = measured_split(metrics), chosen_by(metrics)
    inputs = export.inputs if export else ()
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # it is Markdown
    )
    environment.filters |= {"code": _as_code, "percent": _percent}
    environment.filters["last_part"] = lambda place: Path(place).name  # its folder may be private
    shapes = {each.name: ", ".join(str(size or "length") for size in each.shape[1:]) for each in inputs}
    zeros = (
        f"{each.name} = np.zeros((1, {shapes[each.name]}), np.{each.dtype.name})  # put yours here" for each in inputs
    )
    training = run.config.training
    fine_tunes = bool(training.fine_tune_epochs and run.config.model.trainable_layers)
    fresh = "fresh" in (training.augment, training.fine_tune_augment if fine_tunes else None)
    text = environment.select_template([f"{run.task.name}_card.md.j2", f"{run.kind.name}_card.md.j2", TEMPLATE]).render(
        format=export and export.format,
        run=run,
        config=run.config,
        data=metrics.get("data", {}),
        split=measured[0] if measured else None,
        measured=measured[1] if measured else None,
        fine_tunes=fine_tunes,
        varied=fresh or (training.views or 1) > 1,
        parity=export.parity if export else {},
        thresholds=run.task.thresholds_of(run.class_names),
        chosen=_chosen(flag) if flag else "",
        unknown=_unknown(metrics.get("unknown"), measured[0]) if measured else None,
        inputs=inputs,
        figures=_figures(metrics),
        classes=_classes(measured[1], run.class_names) if measured else [],
        baselines=_baselines(metrics.get("baseline")),
        cautions=_cautions(run.folder),
        takes=", ".join(f"`{each.name}`, {each.dtype.name} (n, {shapes[each.name]})" for each in inputs),
        zeros="\n".join(zeros),
        formats=run.kind.graph_reader().formats if run.kind.graph_reader else (),
        licence=textwrap.fill(weights_licence(run.config.model.backbone, run.config.model.weights), 110),
        most_pixels=MAX_PIXELS,
        versions=installed_versions("tensorflow", "keras"),
    )
    write_text(path, text)


def _figures(metrics: dict[str, Any]) -> list[tuple[str, str, str]]:
    """Returns name, figure on val and figure on test of each metric; '' where there is none."""
    rows = []
    for name, metric in all_metrics().items():
        val, test = (_shown(metrics.get(split), name, metric.is_share) for split in ("val", "test"))
        if val or test:
            rows.append((metric.title, val, test))
    return rows


def _shown(figures: Any, name: str, is_share: bool) -> str:
    known: dict[str, Any] = figures if isinstance(figures, dict) else {}
    value, interval = known.get(name), known.get(f"{name}_ci95")
    if not is_number(value):
        return ""
    text = _percent(value) if is_share else f"{value:.3f}"
    return f"{text} ({_interval_text(interval)})" if isinstance(interval, list) else text


def _interval_text(interval: Sequence[float]) -> str:
    low, high = interval
    return f"{_percent(low)} to {_percent(high)}"


def _percent(share: float) -> str:
    """Formats a fraction: '98.6 %', with a space that any editor shows; see `share_text`."""
    return share_text(share).replace("%", " %")


def _chosen(flag: str) -> str:
    """Returns the end of a sentence about thresholds: the flag that gave them, or by which they were chosen on val."""
    return f", {'given' if is_given(flag) else 'chosen on val'} by {_as_code(flag)}"


def _classes(figures: dict[str, Any], names: Sequence[str]) -> list[tuple[str, int, str]]:
    """Returns of each class its name, its number of examples, and its recall with a 95 % interval."""
    per_class, intervals, rows = figures.get("per_class"), figures.get("recall_ci95"), []
    known: dict[str, Any] = per_class if isinstance(per_class, dict) and len(names) <= MOST_CLASSES else {}
    for name in names:
        row = known.get(name)
        recall, support = (row.get("recall"), row.get("support")) if isinstance(row, dict) else (None, None)
        if is_number(recall) and is_number(support) and 0 <= recall <= 1 <= support:
            bounds = intervals.get(name) if isinstance(intervals, dict) else None  # older runs have none
            if not isinstance(bounds, list) or len(bounds) != 2 or not all(map(is_number, bounds)):
                bounds = share_interval(recall, support)
            shown = f"{_percent(recall)} ({_interval_text(bounds)})"
            rows.append((name, int(support), shown))
    return rows


def _unknown(record: Any, split: str) -> dict[str, int] | None:
    """Returns how many examples of a split `--unknown` is wrong about, and `n`, of how many."""
    alarms = record.get(split) if isinstance(record, dict) else None
    is_known = isinstance(alarms, dict) and all(is_number(alarms.get(name)) for name in ("false_alarms", "n"))
    return alarms if is_known else None


def _baselines(baseline: Any) -> list[str]:
    known = baseline if isinstance(baseline, dict) else {}
    shares = {method_name(visible(name)): value for name, value in known.items() if is_number(value)}
    return [f"{name} {_percent(value)}" for name, value in shares.items()]


def _cautions(folder: Path) -> list[str]:
    """Returns what the report of a run says to be careful about, as Markdown."""
    try:
        cautions = read_json(folder / "report.json")["verdict"]["cautions"]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    texts = [visible(text) for text in cautions if isinstance(text, str)] if isinstance(cautions, list) else []
    return [re.sub(r"([\\`*_\[\]<>#|])", r"\\\1", text) for text in texts]


def _as_code(name: str) -> str:
    """Quotes a name for Markdown, between more backticks than it has in a row."""
    fence = "`" * (1 + max(map(len, re.findall("`+", name)), default=0))
    padding = " " if "`" in name else ""
    return f"{fence}{padding}{visible(name)}{padding}{fence}"
