"""Settings as classes of fields, declared once and checked in the same way for flags, files and code.

A field has a name, a type with limits, a default, and a docstring, which is its help. Fields may be nested in groups,
but their names are unique, so flags and files need no path.
"""

import dataclasses
import functools
import json
import os
import reprlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import NoneType, UnionType
from typing import (
    Annotated,
    Any,
    Literal,
    NamedTuple,
    Self,
    TypeVar,
    Union,
    cast,
    dataclass_transform,
    get_args,
    get_origin,
)

import pydantic
from annotated_types import Ge, Gt, Le, Lt
from pydantic.fields import FieldInfo

from app.errors import UsageError, unknown_choice

Class = TypeVar("Class")
LARGEST = 2**32
"""Exclusive upper limit of whole numbers in settings."""
LIMITS = {Ge: "at least", Gt: "above", Le: "at most", Lt: "below"}
TYPES: dict[Any, tuple[str, str]] = {
    int: ("a whole number", "whole numbers"),
    float: ("a number", "numbers"),
    bool: ("true or false", "true or false"),
    Path: ("a path", "paths"),
}
"""Types in words: one value, several."""


def _check_text(text: str) -> str:
    if b"\0" in os.fsencode(text):  # raises for characters that a path cannot hold
        raise ValueError("a text that a path can hold")
    return text


Text = Annotated[str, pydantic.AfterValidator(_check_text)]
Natural = Annotated[int, Ge(0), Lt(LARGEST)]
Positive = Annotated[int, Ge(1), Lt(LARGEST)]
Fraction = Annotated[float, Ge(0), Lt(1)]
Rate = Annotated[float, Gt(0), Le(10)]


class Positional(NamedTuple):
    """Marks a field that is a positional argument, not a flag."""

    metavar: str
    """Name that the help shows."""


@dataclass_transform(frozen_default=True, field_specifiers=(dataclasses.field,))
def settings(kind: type[Class]) -> type[Class]:
    """Decorates a subclass of `Settings`: its objects are frozen, and checked when they are made."""
    config = pydantic.ConfigDict(use_attribute_docstrings=True)
    return cast(type[Class], pydantic.dataclasses.dataclass(frozen=True, config=config)(kind))


class Settings:
    """Base of settings and of groups of settings."""

    __pydantic_fields__: dict[str, FieldInfo]

    @classmethod
    def fields(cls) -> Iterator[tuple[str, str, FieldInfo]]:
        """Yields all fields: group ('' for none), name, and declaration."""
        for name in cls.__pydantic_fields__:
            # Pydantic reads only docstrings of the class itself; that of an inherited field is in its base class.
            classes = [base for base in reversed(cls.__mro__) if issubclass(base, Settings) and base is not Settings]
            field = next(fields[name] for base in classes if name in (fields := base.__pydantic_fields__))
            if isinstance(field.annotation, type) and issubclass(field.annotation, Settings):
                yield from ((name, inner, declared) for _, inner, declared in field.annotation.fields())
            else:
                yield "", name, field

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Makes settings from values by name, at any level of nesting; the other fields have their defaults.

        Raises:
            UsageError: there is no such setting, or it cannot have this value.
        """
        nested = cls._nested(values)
        try:
            return cls._adapter().validate_python(nested)
        except pydantic.ValidationError as error:
            raise _wrong_value(cls, error) from None

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Makes settings, as `of` does, from values of a JSON file, with strict types: no "1" or true for 1."""
        nested = cls._nested(values)
        try:
            # Read as JSON, lists may become tuples and texts paths; nothing else is converted.
            return cls._adapter().validate_json(json.dumps(nested), strict=True)
        except pydantic.ValidationError as error:
            raise _wrong_value(cls, error) from None

    @classmethod
    @functools.cache
    def _adapter(cls) -> pydantic.TypeAdapter[Self]:
        return pydantic.TypeAdapter(cls)

    @classmethod
    def _nested(cls, values: Mapping[str, Any]) -> dict[str, Any]:
        groups = {name: group for group, name, _ in cls.fields()}
        paths = {name for _, name, field in cls.fields() if Path in (field.annotation, *get_args(field.annotation))}
        nested: dict[str, Any] = {group: {} for group in groups.values() if group}
        for name, value in values.items():
            if name not in groups:
                raise unknown_choice("A setting", reprlib.repr(name)[1:-1], groups)
            if name in paths and value == "":  # not the current folder: probably a variable without a value
                raise UsageError(f"{flag_of(name)} must be a path; received nothing.")
            (nested[groups[name]] if groups[name] else nested)[name] = value
        return nested

    def flat(self) -> dict[str, Any]:
        """Returns the values of all fields by name."""
        return {name: getattr(getattr(self, group) if group else self, name) for group, name, _ in self.fields()}

    def changed(self) -> dict[str, Any]:
        """Returns the values that differ from the defaults, by name."""
        defaults = type(self)().flat()
        return {name: value for name, value in self.flat().items() if value != defaults[name]}

    def replace(self, **values: Any) -> Self:
        """Returns the settings with other values of some fields, at any level of nesting."""
        return self.of(**{**self.flat(), **values})


def annotation_of(field: FieldInfo) -> Any:
    """Returns the type of a field with its limits, which pydantic may store separately."""
    return Annotated[field.annotation, *field.metadata] if field.metadata else field.annotation


class Shape(NamedTuple):
    """Form of a field on the command line."""

    several: bool
    """True if it takes any number of values."""
    is_switch: bool
    """True if it takes no value: its presence means true."""
    choices: tuple[str, ...]
    """Allowed names; empty if other values are allowed as well."""
    metavar: str
    """Name of its type in the help, such as INT."""


def shape_of(annotation: Any) -> Shape:
    """Derives from a field's type its form on the command line."""
    if get_origin(annotation) is Annotated:
        return shape_of(get_args(annotation)[0])
    if get_origin(annotation) in (Union, UnionType):
        parts = [shape_of(part) for part in get_args(annotation) if part is not NoneType]
        choices = parts[0].choices if len(parts) == 1 else ()
        return Shape(parts[0].several, parts[0].is_switch, choices, "|".join(part.metavar for part in parts))
    if get_origin(annotation) is tuple:
        return shape_of(get_args(annotation)[0])._replace(several=True)
    if get_origin(annotation) is Literal:
        choices = get_args(annotation)
        return Shape(False, False, choices, f"{{{','.join(choices)}}}" if len(choices) > 1 else choices[0])
    return Shape(False, annotation is bool, (), "TEXT" if annotation is str else annotation.__name__.upper())


def in_words(annotation: Any, several: bool = False) -> str:
    """Describes the values of a type: "a whole number of at least 1, or 'all'"; for `several`, "whole numbers"."""
    if get_origin(annotation) is Annotated:
        kind, *metadata = get_args(annotation)
        limits = [
            f"{LIMITS[type(each)]} {getattr(each, type(each).__name__.lower()):g}"
            for each in metadata
            if type(each) in LIMITS
        ]
        limits = [limit for limit in limits if limit != f"below {LARGEST:g}"]
        joint = " of " if limits and limits[0].startswith("at") else " "
        return in_words(kind, several) + (joint + " and ".join(limits) if limits else "")
    if get_origin(annotation) in (Union, UnionType):
        parts = [in_words(part, several) for part in get_args(annotation) if part is not NoneType]
        return ", or ".join(parts)
    if get_origin(annotation) is tuple:
        return in_words(get_args(annotation)[0], several=True)
    if get_origin(annotation) is Literal:
        return " or ".join(f"'{choice}'" for choice in get_args(annotation))
    return TYPES.get(annotation, ("a text that a path can hold", "texts"))[several]


def flag_of(name: str) -> str:
    """Returns the flag of a field."""
    return "--" + name.replace("_", "-")


def _wrong_value(kind: type[Settings], error: pydantic.ValidationError) -> UsageError:
    """Makes the error for a value that its field cannot have."""
    first = error.errors()[0]
    fields = {(group, name) if group else (name,): field for group, name, field in kind.fields()}
    place = next((place for place in fields if place == first["loc"][: len(place)]), None)
    if place is None:
        return UsageError(f"Settings must be numbers and Unicode texts; {first['msg']}.")
    flag, field, received = flag_of(place[-1]), fields[place], first["input"]
    whole = " ".join(map(str, received)) if isinstance(received, list | tuple) else str(received)
    shown = reprlib.repr(whole)[1:-1] or "nothing"
    choices = shape_of(field.annotation).choices
    if choices and isinstance(received, str):
        return unknown_choice(flag, received, choices)
    if first.get("ctx", {}).get("lt") == LARGEST:
        return UsageError(f"{flag} must be below {LARGEST}; received {shown}.")
    return UsageError(f"{flag} must be {in_words(annotation_of(field))}; received {shown}.")
