"""Answers over HTTP with a trained model, for other programs: `python serve.py runs/NAME`."""

import app.oldest_python  # noqa: F401

import importlib.util
import ipaddress
from pathlib import Path
from typing import Annotated

from annotated_types import Ge, Lt

from app.cli import run_command
from app.errors import UsageError
from app.fields import Positional, settings
from app.flags import parse_flags
from inference.flags import AskFlags
from serving.limits import Limits


@settings
class ServeFlags(AskFlags):
    """Answer over HTTP, with a trained model (RUN) or a pretrained network (--backbone NAME). POST files to /predict as
    the form field 'files'; /docs describes it, /healthz says that it runs, /metrics is for Prometheus."""

    run: Annotated[Path | None, Positional("RUN")] = None
    """A run folder, or a search folder, whose best run is taken."""

    host: str = "127.0.0.1"
    """Address to listen on. Others than 127.0.0.1 let other machines ask, without a password or encryption."""

    port: Annotated[int, Ge(0), Lt(2**16)] = 8000
    """Port to listen on. 0 takes any free one."""

    limits: Limits = Limits()

    def __post_init__(self):
        if (self.run is None) == (self.backbone is None):
            received = "neither" if self.run is None else "both"
            raise UsageError(f"serve.py needs a RUN, such as runs/NAME, or --backbone NAME; received {received}.")
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            raise UsageError(f"--host must be an IP address, such as 0.0.0.0; received '{self.host}'.") from None
        super().__post_init__()


def main() -> None:
    """Opens the port, and only then loads TensorFlow and answers."""
    flags = parse_flags(ServeFlags)
    if not all(map(importlib.util.find_spec, ("fastapi_offline", "multipart", "uvicorn", "prometheus_client"))):
        raise UsageError("serve.py needs FastAPI and more: pip install -r requirements-serve.txt")
    from app.terminal import import_tensorflow, show_stage
    from inference.web_server import open_port

    network, run = flags.find_network(flags.run)
    is_local = ipaddress.ip_address(flags.host).is_loopback
    if not is_local:
        warned = "whoever can reach this port can ask, unencrypted and without a password; see SECURITY.md"
        show_stage("warning", f"--host {flags.host}: {warned}")
    listener = open_port(flags.port, flags.host)
    import_tensorflow()
    from serving.api import make_api
    from serving.http_server import serve

    name = run.folder.resolve().name if run else str(flags.backbone)
    shown = f"[{flags.host}]" if ":" in flags.host else flags.host
    hosts = ("127.0.0.1", "localhost", shown) if is_local else ("*",)
    api = make_api(network, name, flags.limits, unknown_below=flags.unknown_below, hosts=hosts)
    show_stage("serving", f"http://{shown}:{listener.getsockname()[1]}/docs (Ctrl-C ends it)")
    serve(api, listener, flags.limits.max_seconds)


if __name__ == "__main__":
    run_command(main)
