"""Flags from a dataclass: what `--help` shows of its fields, and every mistake in one sentence."""

import contextlib
import dataclasses
import io
import re
import sys
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, TypeVar, get_args, get_origin, get_type_hints

import docstring_parser
import tyro

from app.config import SECTIONS, DataConfig
from app.errors import UsageError, unknown_choice

Flags = TypeVar("Flags")
KINDS: dict[type, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    str: ("a text", "texts"),
    Path: ("a path", "paths"),
}
"""Of values, in words: one, several."""


def parse_flags(
    kind: type[Flags], args: list[str] | None = None, default: Flags | None = None, description: str | None = None
) -> Flags:
    """Reads flags that a dataclass describes.

    Args:
        kind: the dataclass.
        args: the flags; those of the process when None.
        default: what is not given; the defaults of the fields when None.
        description: what `--help` says first; the docstring of the class when None.

    Raises:
        UsageError: an unknown flag or an impossible value.
        SystemExit: with 0 after --help.
    """
    args = sys.argv[1:] if args is None else args
    if {"-h", "--help"} & set(args):
        _show_help(kind, default, description)
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            given: dict[str, Any] = {} if default is None else {"default": default}
            return tyro.cli(kind, args=args, config=(tyro.conf.DisallowNone,), **given)
    except SystemExit as exit_request:
        if exit_request.code == 0:  # shells ask tyro how to complete a flag
            raise
        raise UsageError(_one_line(complaint.getvalue(), kind)) from None


def _show_help(kind: type, default: Any, description: str | None) -> None:
    """Prints the help, that of settings in a box for each of the `SECTIONS`, and exits."""
    texts = {
        param.arg_name: " ".join(param.description.split())  # tyro would keep the line breaks
        for base in reversed(kind.__mro__[:-1])
        for param in docstring_parser.parse_from_object(base).params
        if param.description
    }
    types = get_type_hints(kind, include_extras=True)
    titles = {name: title for title, names in SECTIONS.items() for name in names if issubclass(kind, DataConfig)}
    sections: dict[str | None, list[Any]] = {}
    for field in dataclasses.fields(kind):
        value = field.default if default is None else getattr(default, field.name)
        shown = dataclasses.field(default=value, kw_only=field.kw_only, metadata={"help": texts[field.name]})
        sections.setdefault(titles.get(field.name), []).append((field.name, types[field.name], shown))
    fields = sections.pop(None, [])
    for title, names in SECTIONS.items():
        if title in sections:
            ordered = sorted(sections[title], key=lambda field: names.index(field[0]))
            section = dataclasses.make_dataclass(title, ordered, frozen=True)
            fields.append((title, section, dataclasses.field(default=section())))
    tyro.cli(
        dataclasses.make_dataclass(kind.__name__, fields),
        args=["--help"],
        description=description or " ".join((kind.__doc__ or "").split()),
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.DisallowNone),
    )


def _one_line(boxed: str, kind: type) -> str:
    """What tyro says in a box, as one line: what was expected, what came, and the flags it suggests."""
    rows = [row.strip(" │╭╮╰╯") for row in boxed.splitlines()]
    text = "\n".join("" if re.fullmatch("─ .*|[─-]+", row) else row for row in rows).strip()
    sections = [" ".join(section.split()) for section in re.split(r"\n{2,}", text)]
    if "╭" not in boxed:  # where the terminal has no Unicode, the title is a section of its own
        del sections[0]
    message, types = sections[0].rstrip("."), get_type_hints(kind)
    wrong = re.search(r"(?:Error parsing|for argument) '?--([\w-]+)", message)
    if wrong and (name := wrong[1].replace("-", "_")) in types:
        received = re.findall(r"'([^']*)'", message.split(" Expected one of ")[0].replace(f"'--{wrong[1]}'", ""))
        return _wrong_value(f"--{wrong[1]}", types[name], received)
    suggested = re.findall(r"--[\w-]+(?= [{A-Z\[])", " ".join(sections[1:])) if "Perhaps" in boxed else []
    missing = re.fullmatch(r"Missing from (\S+): (\S+) (.*) \(required\)", message)
    if missing:
        return f"{missing[1]} needs a {missing[2]}: {missing[3][0].lower()}{missing[3][1:]}"
    unknown = re.match(r"Unrecognized options: ([^-,]+)", message)
    if unknown and "data" in types and Path(unknown[1]).exists():
        suggested = [f"--data {unknown[1]}"]
    hint = f" Did you mean {' or '.join(dict.fromkeys(suggested))}?" if suggested else ""
    return f"{message}.{hint} --help explains every flag."


def _wrong_value(flag: str, kind: Any, received: list[str]) -> str:
    """The sentence for values that a setting cannot have."""
    choices = kind
    while get_origin(choices) is not Literal and get_args(choices):
        choices = get_args(choices)[0]
    if get_origin(choices) is Literal and received:
        return str(unknown_choice(flag, received[0], get_args(choices)))
    return f"{flag} must be {_in_words(kind)}; received {' '.join(received) or 'nothing'}."


def _in_words(kind: Any, several: bool = False) -> str:
    """What a setting of some type may be: "a whole number or 'all'", and as one of several "whole numbers or 'all'"."""
    if get_origin(kind) is Annotated:
        return _in_words(get_args(kind)[0], several)
    if kind in KINDS:
        return KINDS[kind][several]
    if get_origin(kind) is Literal:
        return " or ".join(f"'{choice}'" for choice in get_args(kind))
    if get_origin(kind) is tuple:
        return _in_words(get_args(kind)[0], several=True)
    return " or ".join(_in_words(each, several) for each in get_args(kind) if each is not NoneType)
