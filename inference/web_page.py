"""The page of demo.py: shows the answer for a picture or a text, with an explanation.

The page loads nothing from elsewhere, and its headers forbid it. Pictures are decoded as in training, by
`data.images.decode`, not by the browser or the web library.
"""

import contextlib
import functools
import socket
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

import flask
import numpy as np
from PIL import Image

from app.data_uri import picture_uri
from app.terminal import attempt, counted, share_text
from data.content import MAX_BYTES, UnreadableError, content_of
from data.images.explain import grad_cam, overlay
from data.kinds import Inputs, Shown
from data.sources import printable
from inference.answer_table import answers_to, labels_of
from inference.answering import AnsweringModel
from inference.drawing import COLOURS, Drawn, draw_boxes
from inference.predict_boxes import boxes_of
from inference.predictor import Predictor
from inference.web_server import HOST, serve
from tasks.detection import Detection

CLASSES_SHOWN = 10
"""Number of likeliest classes to show."""
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src data:; "
    "media-src data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}


class Example(NamedTuple):
    """A picture that the page offers."""

    name: str
    pixels: np.ndarray
    """uint8 (image_size, image_size, 3)."""


Ask = Callable[[Inputs, bytes], dict[str, Any]]
"""Answers an example, as tensors and as bytes, by the variables of the template `answer.html`."""


def show_page(
    network: AnsweringModel,
    name: str,
    examples: Sequence[Path],
    listener: socket.socket,
    *,
    unknown_below: float | None = None,
    open_browser: bool = False,
) -> None:
    """Loads a model and serves its page until Ctrl-C.

    Args:
        network: the model that answers.
        name: title of the page.
        examples: picture files offered as examples.
        listener: from `inference.web_server.open_port`.
        unknown_below: the answer is 'unknown' if no class has this probability.
        open_browser: whether to open the page in the browser.
    """
    ask = load_ask(network, unknown_below)
    (dtype,) = network.reader.inputs
    ask((np.zeros(1, dtype)[0],), b"-")  # the first answer is slow
    serve(make_app(network, name, examples, ask), listener, open_browser)


def load_ask(network: AnsweringModel, unknown_below: float | None = None) -> Ask:
    """Loads a model as a function that answers one example at a time, from any thread; see `show_page`."""
    predict, alone = network.load(), threading.Lock()
    if isinstance(network.task, Detection):
        return functools.partial(_ask_for_boxes, network, predict, alone)
    task = network.task
    explains = {"pooling", "head"} <= {layer.name for layer in predict.model.layers}
    is_picture, explain = network.kind.has_mirror, network.kind.explain

    def ask(inputs: Inputs, content: bytes = b"") -> dict[str, Any]:
        nonlocal explains
        joined, pixels = network.reader.join([inputs]), inputs[0]
        with alone:
            outputs, far = network.ask(predict, joined)
            probabilities = task.probabilities(outputs)[0]
            likeliest = probabilities.argmax(keepdims=True)
            heatmap = text = None
            if not is_picture:
                shown: list[Shown] | str = ""
                if explains and explain is not None:
                    asked = predict.model, network.reader, joined, [content], likeliest
                    shown = attempt(explain.name, lambda: explain.compute(*asked))
                answered = network.kind.show(inputs, content, "") if isinstance(shown, str) else shown[0]
                text = answered.html
            elif explains:
                found = attempt("Where it looks (Grad-CAM)", lambda: grad_cam(predict.model, pixels[None], likeliest))
                heatmap = None if isinstance(found, str) else found[0]
                explains = heatmap is not None  # another picture would fail, too
        row = answers_to(outputs, network.class_names, task, unknown_below, far).iloc[0]
        labels = labels_of(row["predicted"], task)
        order = np.argsort(-probabilities, kind="stable")[:CLASSES_SHOWN]
        return {
            "answer": ", ".join(labels),
            "unknown_below": unknown_below if row["status"] == "unknown" and far is None else None,
            "bars": [(name := network.class_names[i], float(probabilities[i]), name in labels) for i in order],
            "others": len(probabilities) - len(order),
            "likeliest": network.class_names[likeliest[0]],
            "text": text,
            "hint": explain.hint if explain else "",
            "picture": pixels,
            "looked": None if heatmap is None else overlay(pixels, heatmap),
            "nowhere": heatmap is not None and not heatmap.any(),
        }

    return ask


def _ask_for_boxes(
    network: AnsweringModel, predict: Predictor, alone: threading.Lock, inputs: Inputs, content: bytes = b""
) -> dict[str, Any]:
    """Answers a picture with the boxes drawn on it, and how many of each class there are."""
    (pixels,) = inputs
    with alone:
        (found,) = boxes_of(network, predict(pixels[None]))
    names = network.class_names
    drawn = [
        Drawn(box[:4] * len(pixels), COLOURS[int(box[5]) % len(COLOURS)], f"{names[int(box[5])]} {box[4]:.0%}")
        for box in found
    ]
    counts = Counter(names[int(box[5])] for box in found)
    surest = {name: max(float(box[4]) for box in found if names[int(box[5])] == name) for name in counts}
    return {
        "answer": ", ".join(f"{count} {name}" for name, count in counts.most_common()) or "nothing found",
        "unknown_below": None,
        "bars": [(name, score, True) for name, score in surest.items()],
        "others": 0,
        "likeliest": "",
        "text": None,
        "picture": np.asarray(draw_boxes(pixels, drawn)),
        "looked": None,
        "nowhere": False,
    }


def make_app(network: AnsweringModel, name: str, examples: Sequence[Path], ask: Ask) -> flask.Flask:
    """Makes the app behind the page; see `show_page`. Examples that cannot be read are left out."""
    app = flask.Flask(__name__, static_folder="web/static", template_folder="web")
    app.jinja_env.trim_blocks = app.jinja_env.lstrip_blocks = True
    filters = {"counted": counted, "share": share_text, "uri": lambda pixels: picture_uri(Image.fromarray(pixels))}
    app.jinja_env.filters |= filters
    # DNS rebinding: the name of another site could resolve to this address.
    app.config.update(MAX_CONTENT_LENGTH=MAX_BYTES, TRUSTED_HOSTS=[HOST, "localhost"])
    offered = []
    for path in examples:
        with contextlib.suppress(UnreadableError):
            with content_of(path) as content:
                (pixels,) = network.reader.read(content)
            offered.append(Example(printable(path.name), pixels))

    @app.get("/")
    def page() -> str:
        shown = {"name": printable(name), "network": network, "examples": offered, "most_bytes": MAX_BYTES}
        return flask.render_template("page.html", **shown)

    @app.post("/answer")
    def answer_upload() -> str:
        content = flask.request.get_data()
        return flask.render_template("answer.html", **ask(network.reader.read(content), content))

    @app.post("/examples/<int:index>")
    def answer_example(index: int) -> str:
        if index >= len(offered):
            flask.abort(404)
        return flask.render_template("answer.html", **ask((offered[index].pixels,), b""))

    @app.errorhandler(UnreadableError)
    def refuse_picture(error: UnreadableError) -> tuple[str, int]:
        return flask.render_template("answer.html", reason=error), HTTPStatus.BAD_REQUEST

    @app.before_request
    def refuse_other_pages() -> None:
        """Refuses requests from other pages in the browser, whose headers name their origin."""
        own = {"Sec-Fetch-Site": "same-origin", "Origin": flask.request.host_url.rstrip("/")}
        said = flask.request.headers
        if flask.request.method == "POST" and any(said.get(name, value) != value for name, value in own.items()):
            flask.abort(403)

    @app.after_request
    def add_headers(response: flask.Response) -> flask.Response:
        response.headers.update(HEADERS)
        return response

    return app
