"""Settings of the place and manner of a run; see `app/config.py`."""

from pathlib import Path
from typing import Annotated, Literal

from annotated_types import Ge
from platformdirs import user_cache_path

from app.fields import Positive, Settings, Text, settings

Strategy = Literal["auto", "one", "mirrored", "multiworker", "tpu"]
DEFAULT_CACHE_DIR = user_cache_path("headstart")


@settings
class RunConfig(Settings):
    """Place and manner of a run. They are never part of `config.json`, so that a copied one cannot write into an old
    run, and none of them changes a result but for rounding."""

    output: Path | None = None
    """Folder of the run. Default: one below runs/, named by time, backbone and data."""

    resume: Path | None = None
    """Folder of an unfinished run to resume under its own settings: the result is that of a run that was never
    stopped. Default: a new run."""

    checkpoint_seconds: Annotated[float, Ge(0)] = 60.0
    """Seconds between saves of an unfinished phase: what a kill may cost. Ctrl-C and SIGTERM save first."""

    tensorboard: bool = False
    """Also write every epoch for TensorBoard, to the folder tensorboard/ of the run."""

    strict: bool = False
    """End with an error if any picture has to be set aside."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder for what can be computed again, such as unpacked data sets and what the frozen layers made of them."""

    cache_gb: Annotated[float, Ge(0)] = 20.0
    """Most that decoded pictures and the frozen layers' results may take there, GB; those unused for longest go first.
    The result does not depend on it: where fine-tuning needs more, the run says how much before it computes anything.
    With 0, heads can be trained, and --fine-tune-augment fresh."""

    strategy: Strategy = "auto"
    """Devices that the network learns on: 'one' device, all GPUs of this machine ('mirrored'), several machines
    ('multiworker', named by TF_CONFIG), or a 'tpu'. 'auto' takes what is there. The result is the same but for
    rounding."""

    devices: Positive | None = None
    """Number of GPUs of this machine that are used. Default: all. Without any, the CPU is split into as many, to try
    it."""

    workers: Positive | None = None
    """Processes that read the examples, compute the frozen layers and run the trials of a search, each with its share
    of the cores, or with a GPU of its own. Default: this process; with --cluster, one for each GPU, or machine."""

    cluster: Text | None = None
    """Ray cluster on whose machines these processes are: 'auto' for the one of this machine, or HOST:PORT.
    Default: none."""

    @property
    def has_workers(self) -> bool:
        """True if other processes share the work."""
        return self.cluster is not None or (self.workers or 1) > 1
