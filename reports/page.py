"""Writes HTML pages: one self-contained file each, with figures that follow the reader's light or dark colours.

Names of classes and files may hold anything. So templates escape every value, figures escape their texts, and the page
forbids the browser to load anything, and to run any script but its own.
"""

import base64
import functools
import hashlib
import io
import re
import warnings
from pathlib import Path
from typing import Any

import jinja2
import matplotlib
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from app.data_uri import data_uri
from app.escapes import visible
from app.files import write_text
from app.terminal import SIGNIFICANT, share_text

FOLDER = Path(__file__).parent
BASE_STYLE = FOLDER.parent / "inference" / "web" / "static" / "base.css"
"""Colours and fonts, shared with the page of demo.py."""
SPACE = "\u00a0"
"""No-break space, which keeps a number and its unit on one line."""
GREY_TOLERANCE = 12
"""Colours whose red, green and blue differ by at most this much of 255 count as grey, and follow the page."""


def write_page(path: Path, template: str, **content: Any) -> Path:
    """Renders a page.

    Args:
        path: path of the page.
        template: a file beside this one.
        content: the template's variables.

    Returns:
        The path.
    """
    write_text(path, _environment().get_template(template).render(**content))
    return path


def percent(value: float | None, decimals: int = 1) -> str:
    """Formats a fraction: '98.6 %', or a dash for None and NaN; '100 %' only for exactly 1."""
    if value is None or value != value:
        return "–"
    text = share_text(value, 0 if round(value, SIGNIFICANT) == 1 else decimals)
    return f"{text.removesuffix('%')}{SPACE}%"


def method_name(name: str) -> str:
    """Returns the shown name of a simple method, from its name in `metrics.json`."""
    return {"tf_idf": "tf-idf"}.get(name, name.replace("_", " "))


def interval(bounds: list[float] | None, decimals: int = 1) -> str:
    """Formats an interval of fractions: '97.7 to 99.2 %', or nothing for None."""
    if bounds is None or bounds[0] != bounds[0]:
        return ""
    return f"{percent(bounds[0], decimals).removesuffix(f'{SPACE}%')} to {percent(bounds[1], decimals)}"


def number(value: float | None, digits: int = 3) -> str:
    """Formats a number, or a dash for None and NaN; a fraction below 1 is never rounded up to 1."""
    if value is None or value != value:
        return "–"
    value = round(value, SIGNIFICANT)
    return f"{min(value, 1 - 10**-digits) if value < 1 else value:.{digits}f}"


def duration(seconds: float) -> str:
    """Formats seconds: '0.4 s', '79 s', '2.5 min'."""
    unit, size = ("s", 1) if seconds < 120 else ("min", 60) if seconds < 7200 else ("h", 3600)
    return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f}{SPACE}{unit}"


def setting(value: Any) -> str:
    """Formats a setting."""
    if value is None:
        return "not set"
    if isinstance(value, list | tuple):
        return " ".join(map(str, value)) or "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return "–" if value != value else f"{value:.4g}"
    return str(value)


def inline_svg(figure: Figure, description: str) -> Markup:
    """Turns a figure into a part of a page: greys become the page's colours, texts stay texts in its font.

    Args:
        figure: figure whose colours, except greys, must be visible on light and on dark.
        description: text for screen readers, unique on the page.
    """
    written = io.StringIO()
    # Matplotlib warns about characters that its fonts lack; the reader's browser has them.
    with (
        matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": description}),
        warnings.catch_warnings(action="ignore"),
    ):
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    svg = written.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<style .*?</style>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'<g id="[^"]*">', "<g>", svg)
    svg = re.sub(r'style="[^"]*"', lambda style: _follow_page(style[0]), svg)
    width = 96 * figure.get_figwidth()
    opening = f'<svg role="img" aria-label="{escape(description)}" style="max-width: {width:.0f}px" '
    return Markup(opening + re.sub(r' (width|height)="[^"]*"', "", svg[len("<svg") :], count=2))


def png_uri(path: Path) -> str | None:
    """Encodes a PNG file as a data URI; None if there is no file."""
    return data_uri("image/png", path.read_bytes()) if path.is_file() else None


@functools.cache
def _environment() -> jinja2.Environment:
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        finalize=_finalize,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": percent,
        "interval": interval,
        "number": number,
        "duration": duration,
        "setting": setting,
        "count": lambda value: f"{value:,}",
    }
    script = (FOLDER / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    style = "".join(file.read_text(encoding="utf-8") for file in (BASE_STYLE, FOLDER / "page.css"))
    environment.globals |= {"style": Markup(style), "script": Markup(script), "script_digest": digest}
    return environment


def _finalize(value: Any) -> Any:
    """Escapes control characters of a value, but not of HTML that this project made."""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def _follow_page(style: str) -> str:
    style = re.sub(r"font-family: [^;\"]*", "font-family: inherit", style)
    return re.sub(r"#([0-9a-f]{2})([0-9a-f]{2})([0-9a-f]{2})\b", _page_colour, style)


def _page_colour(found: re.Match) -> str:
    channels = [int(channel, 16) for channel in found.groups()]
    if max(channels) - min(channels) > GREY_TOLERANCE:
        return found[0]
    return "var(--ink)" if max(channels) < 0x60 else "var(--muted)" if max(channels) < 0xE0 else "var(--card)"
