"""Limits of a request, as flags. Needs no server."""

from typing import Annotated

from annotated_types import Ge, Gt, Le

from app.fields import Settings, settings

MOST_HELD = 512
"""Most MiB of the bodies of all requests together; large bodies are in temporary files."""


@settings
class Limits(Settings):
    """Limits of a request."""

    max_mib: Annotated[int, Ge(1), Le(MOST_HELD)] = 32
    """Most MiB of a request."""

    max_files: Annotated[int, Ge(1), Le(1_000)] = 32
    """Most files of a request."""

    max_seconds: Annotated[float, Gt(0)] = 30.0
    """Most seconds of a request, from its first byte to its answer; slower requests are given up."""
