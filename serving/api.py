"""The interface of serve.py: takes files, returns answers as JSON, and serves health and metrics."""

import asyncio
import contextlib
import io
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from importlib import metadata
from typing import Literal

import fastapi
import numpy as np
from fastapi_offline import FastAPIOffline
from joblib import cpu_count
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Histogram, ProcessCollector
from prometheus_client import generate_latest as metrics_text
from pydantic import BaseModel
from starlette.middleware.trustedhost import TrustedHostMiddleware

from data.content import UnreadableError
from data.kinds import Inputs
from features.forward_pass import BATCH_SIZE
from inference.answer_table import PROBABILITY, answers_to, labels_of
from inference.answering import AnsweringModel
from serving.batcher import Batcher
from serving.guard import Guard, too_busy
from serving.limits import Limits
from tasks.answers import NO_LABEL
from tasks.table import classes_of

MOST_WAITING = 1024
"""Most files, of all requests together, that may wait for answers."""


class Answer(BaseModel):
    """The answer for one file."""

    file: str
    """Name of the file in the request."""
    status: Literal["answered", "unknown", "unreadable"]
    predicted: list[str] = []
    """The class; for a multi-label model any number of classes."""
    probability: float | None = None
    """Probability of the answer; for a multi-label model, of the likeliest class."""
    probabilities: dict[str, float] = {}
    """Probability of each class."""
    reason: str = ""
    """Why the file could not be read."""


class Answers(BaseModel):
    """The answers for the files of a request, in their order."""

    model: str
    answers: list[Answer]


class Problem(BaseModel):
    """Why a request was refused."""

    detail: str


def make_api(
    network: AnsweringModel,
    name: str,
    limits: Limits,
    *,
    unknown_below: float | None = None,
    hosts: Sequence[str] = ("*",),
) -> fastapi.FastAPI:
    """Loads a model, and makes the app that serves it.

    Args:
        network: the model.
        name: name of the model in answers.
        limits: limits of each request.
        unknown_below: the answer is 'unknown' if no class has this probability.
        hosts: accepted host names; '*' for any.
    """
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    files_answered = Counter("headstart_files", "Files answered.", ["status"], registry=registry)
    sizes = Histogram("headstart_batch_files", "Files of a batch.", buckets=(1, 2, 4, 8, 16, 32), registry=registry)
    answer = load_answer(network, unknown_below)
    answer([tuple(np.zeros(1, dtype)[0] for dtype in network.reader.inputs)])  # the first answer is slow

    def answer_batch(examples: Sequence[Inputs]) -> list[Answer]:
        sizes.observe(len(examples))
        return answer(examples)

    batcher = Batcher(answer_batch, BATCH_SIZE)
    decoders = ThreadPoolExecutor(cpu_count(), "decode")
    waiting = 0

    @contextlib.asynccontextmanager
    async def lifespan(_: fastapi.FastAPI) -> AsyncIterator[None]:
        with decoders:
            async with batcher.running():
                yield

    def read(content: bytes) -> Inputs:
        if network.kind.windows is not None and network.kind.windows(io.BytesIO(content), network.reader):
            raise UnreadableError(f"much longer than an input ({network.reader.title}): send it in parts")
        return network.reader.read(content)

    async def answer_file(file: fastapi.UploadFile) -> Answer:
        nonlocal waiting
        waiting += 1
        try:
            if (file.filename or "").lower().endswith(".csv"):  # to a model of texts, its rows would be one text
                noun = network.kind.noun
                raise UnreadableError(f"a table, not a {noun}: send each {noun} as a file of its own")
            content = await file.read()
            inputs = await asyncio.get_running_loop().run_in_executor(decoders, read, content)
            found = (await batcher(inputs)).model_copy(update={"file": file.filename or ""})
        except UnreadableError as error:
            found = Answer(file=file.filename or "", status="unreadable", reason=str(error))
        finally:
            waiting -= 1
        files_answered.labels(found.status).inc()
        return found

    api = FastAPIOffline(
        title=f"Headstart: {name}",
        description=f"Answers for {network.kind.nouns} with {len(network.class_names):,} classes.",
        version=metadata.version("fastapi"),
        redoc_url=None,
        lifespan=lifespan,
    )
    api.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))
    api.add_middleware(Guard, limits=limits, registry=registry)

    @api.post("/predict", responses={code: {"model": Problem} for code in (403, 413, 503)})
    async def predict(files: list[fastapi.UploadFile]) -> Answers:
        """Answers each file of the form field `files`."""
        if len(files) > limits.max_files:
            raise fastapi.HTTPException(413, f"A request may have {limits.max_files} files.")
        if waiting + len(files) > MOST_WAITING:
            raise too_busy("Too many files at a time.")
        return Answers(model=name, answers=await asyncio.gather(*map(answer_file, files)))

    @api.get("/healthz")
    async def health() -> dict[str, str]:
        """Says that the server answers."""
        return {"status": "ok"}

    @api.get("/metrics", response_class=fastapi.responses.PlainTextResponse)
    async def metrics() -> fastapi.Response:
        """Metrics of the server for Prometheus."""
        return fastapi.Response(metrics_text(registry), media_type=CONTENT_TYPE_LATEST)

    return api


def load_answer(
    network: AnsweringModel, unknown_below: float | None = None
) -> Callable[[Sequence[Inputs]], list[Answer]]:
    """Loads a model as a function that answers a batch, its files without names."""
    predict, task = network.load(), classes_of(network.task)

    def answer(examples: Sequence[Inputs]) -> list[Answer]:
        outputs, unknown = network.ask(predict, network.reader.join(examples))
        table = answers_to(outputs, network.class_names, task, unknown_below, unknown)
        probabilities = table[[f"{PROBABILITY}{name}" for name in network.class_names]].to_numpy().tolist()
        return [
            Answer(
                file="",
                status=status,
                predicted=[label for label in labels_of(predicted, task) if label != NO_LABEL]
                if status == "answered"
                else [],
                probability=probability,
                probabilities=dict(zip(network.class_names, values, strict=True)),
            )
            for status, predicted, probability, values in zip(
                table["status"], table["predicted"], table["probability"].tolist(), probabilities, strict=True
            )
        ]

    return answer
