"""Limits of a request, as flags. Needs no server."""

from typing import Annotated

from annotated_types import Gt

from app.fields import Positive, Settings, settings


@settings
class Limits(Settings):
    """Limits of a request."""

    max_mib: Positive = 32
    """Most MiB of a request."""

    max_files: Positive = 32
    """Most files of a request."""

    max_seconds: Annotated[float, Gt(0)] = 30.0
    """Most seconds of a request, from its first byte to its answer; slower requests are given up."""
