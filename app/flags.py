"""Makes flags from settings: `--help` has a section for each group, and every mistake is one sentence."""

import argparse
import sys
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn, TypeVar

from pydantic.fields import FieldInfo

from app.errors import UsageError, did_you_mean
from app.fields import Positional, Settings, annotation_of, flag_of, in_words, shape_of

Class = TypeVar("Class", bound=Settings)


def parse_flags(kind: type[Class], args: Sequence[str] | None = None) -> Class:
    """Reads flags into settings; see `given_flags`."""
    return kind.of(**given_flags(kind, args))


def given_flags(
    kind: type[Settings],
    args: Sequence[str] | None = None,
    several: Mapping[str, str] | None = None,
    without: Collection[str] = (),
) -> dict[str, Any]:
    """Reads the given flags, as texts by name of the field.

    Args:
        kind: class of the settings; `--help` begins with its docstring.
        args: the flags; None for those of the process.
        several: fields that take several values though their type takes one, with their help.
        without: fields without a flag.

    Raises:
        UsageError: an unknown flag, or one without a value.
        SystemExit: with 0 after --help.
    """
    several = several or {}
    parser = _Parser(
        usage="%(prog)s [-h] [OPTIONS]",
        description=" ".join((kind.__doc__ or "").split()),
        argument_default=argparse.SUPPRESS,
        allow_abbrev=False,
    )
    sections = {group: parser.add_argument_group(f"{group} options") for group, _, _ in kind.fields() if group}
    fields = [field for field in kind.fields() if field[1] not in without]
    for group, name, field in fields:
        shape, section = shape_of(field.annotation), sections.get(group, parser)
        text = several.get(name) or _help_of(field)
        is_shown = field.default not in (None, False, (), "", ...) and not field.is_required() and name not in several
        default = " ".join(map(str, field.default)) if shape.several and is_shown else field.default
        text = (f"{text} (default: {default})" if is_shown else text).replace("%", "%%")
        place = next((each for each in field.metadata if isinstance(each, Positional)), None)
        if place is not None:
            section.add_argument(name, metavar=place.metavar, nargs="*" if shape.several else "?", help=text)
        elif shape.is_switch:
            section.add_argument(flag_of(name), dest=name, help=text, action=argparse.BooleanOptionalAction)
        else:
            count = "*" if shape.several or name in several else None
            section.add_argument(flag_of(name), dest=name, help=text, metavar=shape.metavar, nargs=count)
    parser.annotations = {flag_of(name): annotation_of(field) for _, name, field in fields}
    args = sys.argv[1:] if args is None else args
    # Paths may stand before flags and after them; after "--", they may begin with a hyphen.
    parse = parser.parse_known_args if "--" in args else parser.parse_known_intermixed_args
    known, unknown = parse(args)
    if unknown:
        raise _unknown_flags(unknown, list(parser.annotations))
    given = vars(known)
    for _, name, field in fields:
        if field.is_required() and given.get(name) is None:
            text = _help_of(field)
            raise UsageError(f"{parser.prog} needs a {name.upper()}: {text[0].lower()}{text[1:]} --help explains it.")
    return {name: value for name, value in given.items() if value is not None}


def _help_of(field: FieldInfo) -> str:
    """Returns the docstring of a field in one line."""
    return " ".join((field.description or "").split())


class _Parser(argparse.ArgumentParser):
    """A parser that raises its errors."""

    annotations: Mapping[str, Any] = {}
    """Types of the fields by flag."""

    def error(self, message: str) -> NoReturn:
        flag, _, problem = message.removeprefix("argument ").partition(": ")
        flag = flag.partition("/")[0]
        if problem.startswith("expected") and flag in self.annotations:
            raise UsageError(f"{flag} must be {in_words(self.annotations[flag])}; received nothing.")
        raise UsageError(f"{message[0].upper()}{message[1:]}. --help explains every flag.")


def _unknown_flags(unknown: Sequence[str], flags: Sequence[str]) -> UsageError:
    """Makes the error for arguments that no flag takes."""
    first = unknown[0].partition("=")[0]
    ending = [flag for flag in flags if first.startswith("--") and flag.endswith(first[1:])]
    hint = f" Did you mean {' or '.join(map(repr, ending))}?" if ending else did_you_mean(first, flags)
    if not first.startswith("-") and "--data" in flags and Path(first).exists():
        hint = f" Did you mean '--data {first}'?"
    return UsageError(f"Unknown options: {' '.join(unknown)}.{hint} --help explains every flag.")
