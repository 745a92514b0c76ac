"""Tries a model in the browser, on this machine alone: `python demo.py runs/NAME`."""

import app.oldest_python  # noqa: F401

from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Lt

from app.cli import run_command
from app.config import DEFAULT_CACHE_DIR
from app.errors import UsageError
from app.fields import Positional, settings
from app.flags import parse_flags
from inference.flags import AskFlags

EXAMPLES = 6
"""Most test pictures that the page offers."""


@settings
class DemoFlags(AskFlags):
    """Try a model in the browser: a trained one (RUN), or a pretrained network (--backbone NAME), which knows the 1000
    classes of ImageNet. The page is for this machine alone, and needs no network."""

    run: Annotated[Path | None, Positional("RUN")] = None
    """A run folder, or a search folder, whose best run is taken."""

    port: Annotated[int, Ge(0), Lt(2**16)] = 7860
    """Port of the page, http://127.0.0.1:PORT/. 0 takes any free one."""

    open: bool = False
    """Open the page in the browser of this machine."""

    cache_dir: Path = DEFAULT_CACHE_DIR
    """Folder of unpacked data sets, whose test pictures the page offers."""

    def __post_init__(self):
        if (self.run is None) == (self.backbone is None):
            received = "neither" if self.run is None else "both"
            raise UsageError(f"demo.py needs a RUN, such as runs/NAME, or --backbone NAME; received {received}.")
        super().__post_init__()


def main() -> None:
    """Opens the port, and only then looks for examples, loads TensorFlow and shows the page."""
    flags = parse_flags(DemoFlags)
    from app.terminal import import_tensorflow
    from inference.run_record import find_examples
    from inference.web_server import open_port

    network, run = flags.find_network(flags.run)
    if network.kind.name not in ("image", "text"):
        raise UsageError(
            f"demo.py shows pictures and texts only; '{flags.run}' learnt from {network.kind.nouns}. Use predict.py."
        )
    listener = open_port(flags.port)
    examples = find_examples(run, EXAMPLES, flags.cache_dir) if run and network.kind.column is None else []
    name = str(flags.backbone) if flags.run is None else flags.run.resolve().name
    import_tensorflow()
    from inference.web_page import show_page

    show_page(network, name, examples, listener, unknown_below=flags.unknown_below, open_browser=flags.open)


if __name__ == "__main__":
    run_command(main)
