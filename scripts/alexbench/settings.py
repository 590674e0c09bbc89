"""Settings, each declared once: a dataclass's fields with their meaning and limits. Command-line options, JSON Schema and the tables of
config/README.md follow from them."""

import argparse
from dataclasses import Field, field, fields
from math import inf
from typing import Any

from alexbench import numeric

# JSON Schema's names of limits, and those of `numeric.number`.
LIMITS = {"minimum": "least", "maximum": "most", "exclusiveMinimum": "above", "exclusiveMaximum": "below"}
_KINDS = {int: "integer", float: "number", str: "string", bool: "boolean"}


def setting(default: Any, *, help: str, about: str = "", metavar: str | None = None, extensible: bool = False, **limits: Any) -> Any:
    """A field of a settings dataclass.

    `help`: its meaning in a few words, as an option's help. `about`: the same at more length, for config/README.md; by default, `help` as a
    sentence. `limits`: `enum` and those of LIMITS.
    `extensible`: the option takes more than the configuration's `enum`.
    """
    sentence = f"{help[0].upper()}{help[1:]}."
    metadata = {
        "help": help,
        "sentence": sentence,
        "about": about or sentence,
        "metavar": metavar,
        "extensible": extensible,
        "limits": limits,
    }
    return field(default=default, metadata=metadata)


def schema(settings: type) -> dict:
    """The JSON Schema of a settings dataclass."""
    properties = {
        f.name: {"description": f.metadata["sentence"], "type": _KINDS[f.type]}
        | {key: list(value) if key == "enum" else value for key, value in f.metadata["limits"].items()}
        for f in fields(settings)
    }
    return {"type": "object", "additionalProperties": False, "required": list(properties), "properties": properties}


def add_options(parser: argparse.ArgumentParser, settings: type) -> None:
    """Make every field of a settings dataclass an option of a program."""
    group = parser.add_argument_group(settings.__name__.lower())
    for f in fields(settings):
        option, text = f"--{f.name.replace('_', '-')}", f.metadata["help"].replace("%", "%%")
        if f.type is bool:
            group.add_argument(option, action=argparse.BooleanOptionalAction, default=f.default, help=text)
            continue
        choices = None if f.metadata["extensible"] else f.metadata["limits"].get("enum")
        kind = f.type if f.type is str else _number(f)
        group.add_argument(
            option, type=kind, choices=choices, default=f.default, metavar=f.metadata["metavar"], help=f"{text} (%(default)s)"
        )


def from_options(args: argparse.Namespace, settings: type) -> Any:
    """The settings that the options of `add_options` describe."""
    return settings(**{f.name: getattr(args, f.name) for f in fields(settings)})


def table(settings: type) -> str:
    """The settings as a Markdown table: key, default, meaning."""
    section = settings.__name__.lower()
    rows = [f"| `{section}.{f.name}` | {_shown(f.default)} | {f.metadata['about']} |" for f in fields(settings)]
    return "\n".join(["| key | default | meaning |", "|---|---|---|", *rows])


def _number(f: Field) -> Any:
    bounds = {ours: f.metadata["limits"].get(name, inf if ours in ("most", "below") else -inf) for name, ours in LIMITS.items()}
    return numeric.number(f.type, **bounds)


def _shown(value: object) -> str:
    """A default as the configuration writes it."""
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f"{value:g}" if isinstance(value, int | float) else f"`{value}`"
