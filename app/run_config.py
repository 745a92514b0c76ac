"""Settings that affect where and how a run computes, not what; see `app/config.py`."""

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge, Lt
from platformdirs import user_cache_path

from app.fields import LARGEST, Positive, Settings, Text, settings

Strategy = Literal["auto", "one", "mirrored", "multiworker", "tpu"]
DEFAULT_CACHE_DIR = user_cache_path("headstart")


@settings
class RunConfig(Settings):
    """Settings of where and how a run computes. They are not part of `config.json`, so that a copied one cannot write
    into an old run, and they change results by no more than rounding."""

    output: Path | None = None
    """Folder of the run, or of the search. Default: a folder in runs/, named by time and data."""

    resume: Path | None = None
    """Folder of an unfinished run to resume, with its own settings; the result is the same as without the interruption.
    Default: a new run."""

    checkpoint_seconds: Annotated[float, Ge(0), Lt(LARGEST)] = 60.0
    """Seconds between checkpoints of a phase: the most work that a kill costs. Ctrl-C and SIGTERM save first."""

    tensorboard: bool = False
    """Also write every epoch for TensorBoard, to the folder tensorboard/ of the run."""

    strict: bool = False
    """End with an error if any example is set aside."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder for data that can be computed again, such as unpacked data sets and outputs of frozen layers."""

    cache_gb: Annotated[float, Ge(0), Lt(LARGEST)] = 20.0
    """Maximum size of decoded examples and outputs of frozen layers there, GB; the least recently used go first.
    Results do not depend on it: if fine-tuning needs more, the run says how much before it computes anything. 0 is
    enough for heads, and for --fine-tune-augment fresh."""

    strategy: Strategy = "auto"
    """Devices to train on: 'one' device, all GPUs of this machine ('mirrored'), several machines ('multiworker', named
    by TF_CONFIG), or a 'tpu'. 'auto' uses the available ones. Results differ only by rounding."""

    devices: Positive | None = None
    """Number of GPUs of this machine to use. Default: all. Without GPUs, the CPU is split into this many devices, to
    try such a run."""

    workers: Positive | None = None
    """Number of processes that read the examples, compute the frozen layers and run the trials of a search, each with
    its share of the cores, or with its own GPU. Default: this process; with --cluster, one for each GPU, or machine."""

    cluster: Text | None = None
    """Ray cluster that runs these processes: 'auto' for the one of this machine, or HOST:PORT.
    Default: none."""

    @property
    def has_workers(self) -> bool:
        """True if other processes share the work."""
        return self.cluster is not None or (self.workers or 1) > 1
