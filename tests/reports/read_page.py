"""Reads a page as a reader, a parser or a browser does."""

import html
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

BROWSER = next(
    filter(None, map(shutil.which, ("google-chrome", "google-chrome-stable", "chromium", "chromium-browser"))), None
)
FETCHED = re.compile(r"""(?:src|href|srcset|data|action)=["'](?!data:|#|best/)|url\((?!#)|@import""")
"""What a browser would load from elsewhere."""


class _Nesting(HTMLParser):
    """Keeps the elements that are open, and fails where another is closed."""

    def __init__(self):
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        if tag not in ("meta", "link", "img", "br"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: Any) -> None:
        pass

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> None:
    """Makes sure that a page is whole, needs nothing but itself, and shows no NaN."""
    assert page.startswith("<!DOCTYPE html>")
    assert not FETCHED.search(page)
    nesting = _Nesting()
    nesting.feed(page)
    assert nesting.open == []
    assert "nan" not in re.findall(r"\w+", text_of(page).lower())


def text_of(page: str) -> str:
    """The text of a page as a reader sees it, spaces of any kind as one."""
    body = re.sub(r"<(style|script)>.*?</\1>", "", page, flags=re.DOTALL)
    return " ".join(html.unescape(re.sub(r"<[^>]*>", " ", body)).replace("\u00a0", " ").split())


def browse(page: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """Opens a page in a browser without a window."""
    common = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--enable-logging=stderr")
    profile = f"--user-data-dir={page.parent / 'profile'}"
    command = [BROWSER, *common, profile, *flags, page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
