"""Load and check the configuration: one line per error, naming key, value and choices."""

import difflib
import errno
import os
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from functools import cache, reduce
from operator import getitem
from pathlib import Path

import yaml
from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from jsonschema.protocols import Validator
from jsonschema.validators import extend

from alexbench import backends, settings
from alexbench.experiment import datasets, execution, variants
from alexbench.experiment.download import is_url
from alexbench.experiment.recipe import Recipe
from alexbench.files import InputError, cause, raise_refusal

SCHEMA = Path(__file__).parents[3] / "config" / "schema.yaml"

_KINDS = Draft202012Validator.TYPE_CHECKER.redefine_many(
    {
        # JSON Schema accepts 3.0 as an integer; argparse and paths that contain a seed do not.
        "integer": lambda _, value: isinstance(value, int) and not isinstance(value, bool),
        # YAML's .nan and .inf are not usable numbers either.
        "number": lambda _, value: isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= sys.float_info.max,
    }
)


def load(*overlays: Path | str) -> dict:
    """Load config/config.yaml, merge `overlays` into it section by section, as `snakemake --configfile` does, and check the result."""
    config = _defaults()
    for path in paths(overlays):
        try:
            overlay = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, RecursionError, yaml.YAMLError) as error:
            raise_refusal(error, "config", path)
            raise InputError(f"config: {path} cannot be read ({' '.join(str(error).split())})") from None
        if not isinstance(overlay, dict):
            raise InputError(f"config: {path} holds no keys; config/config.yaml shows them")
        _update(config, _read_text(overlay, schema()))
    mistakes = errors(config)
    if mistakes:
        raise InputError("\n".join(mistakes))
    return config


def paths(given: Iterable[Path | str]) -> list[Path]:
    """Paths of the configuration files that a user named, with ~ expanded; `load` reports those that cannot be read."""
    try:
        return [Path(path).expanduser() for path in given]
    except RuntimeError as error:  # ~name of an unknown user
        raise InputError(f"config: {', '.join(map(str, given))}: {error}; give the whole path") from None


def complete(config: dict) -> None:
    """Fill in missing keys from config/config.yaml and convert text to what it means (`_read_text`), in place."""
    whole = _defaults()
    _update(whole, _read_text(config, schema()))
    config.update(whole)


def _defaults() -> dict:
    return yaml.safe_load((SCHEMA.parent / "config.yaml").read_text(encoding="utf-8"))


def _update(config: dict, changes: dict) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(config.get(key), dict):
            _update(config[key], value)
        else:
            config[key] = value


@cache
def schema() -> dict:
    """config/schema.yaml, with the sections whose settings are declared as dataclasses."""
    found = yaml.safe_load(SCHEMA.read_text(encoding="utf-8"))
    found["properties"]["data"]["properties"]["dataset"]["enum"] = list(datasets.NAMES)
    found["properties"] |= {"recipe": settings.schema(Recipe), "execution": settings.schema(execution.Execution)}
    return found


def _read_text(value: object, schema: dict) -> object:
    """Replace text in `value` by what it means in YAML wherever `schema` expects something other than text.

    Snakemake reads --config 'seeds=[1, 2]' as a list of two strings, and PyYAML reads 1e-4, a number in YAML 1.2, as a string.
    """
    types = schema.get("type", [])
    if isinstance(value, str):
        meant = _meaning(value)
        # Where text is allowed too, keep it, unless it means null and null is allowed.
        value = value if "string" in types and meant is not None else meant if meant is not None or "null" in types else value
    if isinstance(value, dict):
        return {key: _read_text(part, schema.get("properties", {}).get(key, {})) for key, part in value.items()}
    return [_read_text(part, schema.get("items", {})) for part in value] if isinstance(value, list) else value


def _meaning(text: str) -> object:
    """The value that `text` has in a YAML file; `text` itself if that is text, a date or not YAML."""
    if re.fullmatch(r"[-+]?(\d+\.?\d*|\.\d+)[eE][-+]?\d+", text):
        return float(text)
    try:
        meant = yaml.safe_load(text)
    except (ValueError, RecursionError, yaml.YAMLError):
        return text
    return meant if meant is None or isinstance(meant, bool | int | float | list | dict) else text


def errors(config: dict) -> list[str]:
    """The errors in `config`, one line each, in the order of the keys; [] if there are none."""
    # The valid names for each list of names.
    choices = {"frameworks": backends.FRAMEWORKS, "variants": tuple(variants.VARIANTS)}
    found = sorted(_validator().iter_errors(config), key=lambda error: [str(p) for p in error.absolute_path])
    lines = [line for error in found for line in _explain(error)]
    named = [(key, key, value) for key in choices for value in (config.get(key) if isinstance(config.get(key), list) else ())]
    pair = config.get("equal_time")
    named += [("variants", f"equal_time.{key}", value) for key, value in (pair.items() if isinstance(pair, dict) else ())]
    for kind, key, value in named:
        names = choices[kind]
        if isinstance(value, str) and value not in names:
            noun = kind.removesuffix("s")
            lines.append(f"config: {key}: unknown {noun} {_short(value)}{_meant(value, names)}; choose from {', '.join(names)}")
    if isinstance(pair, dict) and pair.get("variant") == pair.get("as_long_as") is not None:
        lines.append(f"config: equal_time: variant and as_long_as are both {_short(pair['variant'])}; name two networks to compare")
    if not found:
        # Without switches: only a framework knows its own, and a configuration names none.
        excluded = execution.contradictions(config["execution"], config["device"], recipe=config["recipe"])
        lines += [f"config: {line}" for line in excluded]
    return lines


@cache
def _validator() -> Validator:
    return extend(Draft202012Validator, type_checker=_KINDS)(schema())


def _explain(error: ValidationError) -> Iterator[str]:
    path = [part for part in error.absolute_path if isinstance(part, str)]
    key = ".".join(path)
    value, rule, bound = error.instance, error.validator, error.validator_value
    if rule == "additionalProperties":
        known = list(error.schema["properties"])
        for name in (name for name in value if name not in known):
            dotted = ".".join([*path, str(name)])
            yield f"config: unknown key {_short(dotted)}{_meant_key(str(name), value[name], known)}; choose from {', '.join(known)}"
    elif rule == "required":
        missing = next(name for name in bound if name not in value and f"'{name}'" in error.message)
        yield f"config: key {'.'.join([*path, missing])!r} is missing; config/config.yaml shows it"
    elif rule == "enum":
        yield f"config: {key}: unknown value {_short(value)}{_meant(str(value), bound)}; choose from {', '.join(bound)}"
    elif rule == "uniqueItems":
        twice = [_cut(item if item.isprintable() else repr(item)) for item, count in Counter(map(str, value)).items() if count > 1]
        yield f"config: {key}: {', '.join(twice)} is listed more than once"
    elif rule == "minItems":
        yield f"config: {key}: the list is empty; name at least one"
    elif rule == "type":
        wanted = " or ".join([bound] if isinstance(bound, str) else bound)
        yield f"config: {key}: {_short(value)} is of the wrong type; give {_article(wanted)} {wanted}{_example(value, error.schema, path)}"
    elif rule in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        relation = {"minimum": "at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}[rule]
        yield f"config: {key}: {_short(value)} is out of range; give a number {relation} {bound}"
    else:
        about = error.schema.get("description", error.message)
        yield f"config: {key}: {_short(value)} is not allowed (must match {bound}): {about}"


def _short(value: object) -> str:
    """A value as Python writes it, shortened if it is long."""
    return _cut(repr(value))


def _cut(text: str) -> str:
    return text if len(text) <= 200 else f"{text[:150]}...{text[-20:]}"


def _article(noun: str) -> str:
    return "an" if noun[0] in "aeiou" else "a"


def _meant(value: str, names: list[str] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(value, names, cutoff=0.7)
    # Of names that are equally close, the one that was begun: `seed` is meant for `seeds`, not for `speed`.
    near.sort(key=lambda name: not name.startswith(value))
    return f", did you mean {near[0]!r}?" if near else ""


def _meant_key(name: str, value: object, known: list[str]) -> str:
    """Suggest what an unknown key was meant to be: a key of the same section (`known`), or one of another section, shown in its place."""
    if difflib.get_close_matches(name, known, n=1, cutoff=0.9):
        return _meant(name, known)
    if value is None and name.partition(":")[0] in known:
        return f" (a space belongs after the colon: {name.replace(':', ': ', 1)})"
    places = dict(_places(schema()))
    exact = [dotted for dotted in places if name in (dotted, places[dotted])]
    if not exact and difflib.get_close_matches(name, known, n=1, cutoff=0.7):
        return _meant(name, known)
    near = difflib.get_close_matches(name, places.values(), n=1, cutoff=0.7)
    for dotted in exact or [dotted for dotted in places if places[dotted] in near]:
        section, _, key = dotted.rpartition(".")
        written = f"{key}: {_as_yaml(value)}"
        return f", did you mean {dotted!r} ({f'{section}: {{{written}}}' if section else f'{written}, outside of all sections'})?"
    return ""


def _as_yaml(value: object) -> str:
    """A simple value as YAML; "..." for any other."""
    if isinstance(value, bool):
        return str(value).lower()
    text = repr(value) if isinstance(value, int | float) else value
    return text if isinstance(text, str) and re.fullmatch(r"[\w./+-]{1,60}", text) else "..."


def _places(schema: dict, section: str = "") -> Iterator[tuple[str, str]]:
    """Every key that holds a value: its dotted path and its own name."""
    for name, inner in schema["properties"].items():
        if "properties" in inner:
            yield from _places(inner, f"{section}{name}.")
        else:
            yield f"{section}{name}", name


def _example(value: object, schema: dict, path: list[str]) -> str:
    """How to write a list or a section, for someone who wrote something else: with their own value if it fits, else with the default."""
    if schema["type"] == "array":
        parts = [_as_yaml(part) for part in (re.split(r" *, *", value) if isinstance(value, str) else [value])]
        if "..." in parts:
            parts = [_as_yaml(part) for part in reduce(getitem, path, _defaults())]
        return f", such as [{', '.join(parts[:10])}]"
    if schema["type"] == "object" and "properties" in schema:
        return f", such as {{{next(iter(schema['properties']))}: ...}}"
    return ""


def missing_files(config: dict) -> list[str]:
    """One line for each local file that the grid needs but that does not exist or cannot be used as an input."""
    needed = []
    images = datasets.source(config["data"]["dataset"])
    if images.ARCHIVE and config["data"]["archive"]:
        needed.append(("data.archive", config["data"]["archive"], images.ARCHIVE))
    if "folder" in images.READS and config["data"]["folder"] is None:
        return ["config: data.folder: names no folder; give the path of one that holds train/CLASS/ or CLASS/ with pictures"]
    if "folder" in images.READS:
        needed.append(("data.folder", config["data"]["folder"], "a folder that holds train/CLASS/ or CLASS/ with pictures"))
    if any(variants.VARIANTS[name].pretrained for name in config["variants"]):
        needed.append(("weights.source", config["weights"]["source"], "a .pth or .safetensors file"))
    lines = []
    for key, source, what in needed:
        if is_url(source):
            continue
        refused = _refusal(source)
        if refused:
            lines.append(f"config: {key}: {_short(source)} {refused}; give the path of {what}{'' if key == 'data.folder' else ' or a URL'}")
        elif "{" in source or "}" in source:
            lines.append(f"config: {key}: {_short(source)} has braces, which Snakemake takes for wildcards; give the file another name")
    return lines


def _refusal(path: str) -> str:
    """Why a path cannot be read, such as "does not exist", found without opening it; "" if nothing speaks against it."""
    try:
        place = Path(path).expanduser()
        if not place.exists():
            return "does not exist"
        return "" if os.access(place, os.R_OK) else f"cannot be read ({os.strerror(errno.EACCES)})"
    except OSError as error:  # no access to its folder, or too long
        return f"cannot be read ({cause(error)})"
    except (RuntimeError, ValueError):  # ~name of an unknown user, or text that cannot be a path
        return "does not exist"
