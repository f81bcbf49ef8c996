"""Read YAML strictly, with the line of every key: no tags, no duplicate keys, numbers as in YAML 1.2."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from buttress.components.place import OVERRIDE, KeyPath, Place
from buttress.console.visible import one_line
from buttress.errors import ConfigError
from buttress.number_text import Word, read_float, read_integer
from buttress.storage.regular_file import read_regular_file

# A config is written by hand; these stop files that are not, before they take memory or more than a second.
MAX_BYTES = 100_000
MAX_NODES = 5_000
MAX_DEPTH = 100


class _Loader(yaml.SafeLoader):
    """Plain scalars as in YAML 1.2's core schema: ``2e-3`` is a number, ``12:30`` is text."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012  (PyYAML's own class attribute)


for _tag, _pattern, _first in (
    ("null", r"null|Null|NULL|~|", "~nN\0"),
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", "-+0123456789"),
    (
        "float",
        r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("word", r"y|Y|yes|Yes|YES|n|N|no|No|NO|on|On|ON|off|Off|OFF|None", "yYnNoO"),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(f"^(?:{_pattern})$"), [*_first, ""])


class _Dumper(yaml.SafeDumper):
    """Quotes text that ``_Loader`` would read as another value."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


_Dumper.add_representer(Word, lambda dumper, word: dumper.represent_scalar("tag:yaml.org,2002:word", str(word)))


def dump_yaml(value: object) -> str:
    """``value`` as YAML that ``parse_yaml`` reads back."""
    return yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=120)


@dataclass(frozen=True)
class YamlSource:
    """A parsed file: the value, and ``"file.yaml:12"`` for the path of each key."""

    value: Any
    name: str
    places: dict[KeyPath, str] = field(default_factory=dict)

    @property
    def place(self) -> Place:
        """The place of the whole file; ``place / "threat" / "eps"`` is that of a key."""
        return Place(self.name, (), self.places)

    def blame(self, *paths: KeyPath) -> Place:
        """The place of the first of these keys that an override has set, or else of the first key.

        For mistakes between keys, each of which is right by itself.
        """
        return self.place.under(*next((path for path in paths if self.is_overridden(path)), paths[0]))

    def is_overridden(self, path: KeyPath) -> bool:
        """Whether an override has set the key, or one above it."""
        return any(self.places.get(path[:depth], "").startswith(OVERRIDE) for depth in range(1, len(path) + 1))


def read_yaml(path: Path) -> YamlSource:
    """Parse a config file.

    Raises:
        ConfigError: the file is missing, too large, not UTF-8 or not YAML; a duplicate key; a tag.
    """
    try:
        raw = read_regular_file(path, MAX_BYTES)
    except OSError as problem:
        raise ConfigError(f"cannot be read: {problem.strerror}", key=path) from None
    try:
        return parse_yaml(raw.decode("utf-8"), str(path))
    except UnicodeDecodeError as problem:
        raise ConfigError(f"expected UTF-8 text: {problem}", key=path) from None


class _FastLoader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """libyaml's parser, where PyYAML has it, with the scalars of ``_Loader``; knows no merge keys."""

    yaml_implicit_resolvers = _Loader.yaml_implicit_resolvers


_FastLoader.add_constructor("tag:yaml.org,2002:word", lambda _, node: node.value)


def read_values(path: Path) -> Any:
    """The values of a config file without their lines, in a tenth of the time; for lists of many files.

    Raises:
        OSError, UnicodeDecodeError, ValueError, RecursionError, yaml.YAMLError: the file cannot be read.
    """
    return yaml.load(read_regular_file(path, MAX_BYTES).decode("utf-8"), _FastLoader)


class _StrictLoader(_Loader):
    """Refuses tags, and files that are too large or too deep, as it reads; ``name`` is what messages call the file."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self._name, self._depth, self._nodes = name, 0, 0

    def get_event(self) -> yaml.Event:
        event: yaml.Event = super().get_event()  # type: ignore[no-untyped-call]
        self._nodes += isinstance(event, yaml.NodeEvent)
        if self._nodes > 2 * MAX_NODES:  # keys are nodes too
            raise ConfigError(f"more than {2 * MAX_NODES:,} keys and values", key=self._name)
        tag, mark = getattr(event, "tag", None), event.start_mark
        place = f"{self._name}:{mark.line + 1}" if mark else self._name
        if tag:
            raise ConfigError(f"YAML tag {tag!r} is refused; write the plain value", key=place)
        self._depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
        if self._depth > MAX_DEPTH:
            raise ConfigError(f"nested too deeply; expected at most {MAX_DEPTH} levels", key=place)
        return event


def parse_yaml(text: str, name: str) -> YamlSource:
    """Parse text; ``name`` is what error messages call it."""
    try:
        node = _StrictLoader(text, name).get_single_node()
        reader = _Reader(name)
        value = None if node is None else reader.read(node, ())
    except yaml.YAMLError as problem:
        mark = getattr(problem, "problem_mark", None)
        line = f":{mark.line + 1}" if mark else ""
        raise ConfigError(
            f"not valid YAML: {getattr(problem, 'problem', None) or problem}", key=f"{name}{line}"
        ) from None
    except RecursionError:
        raise ConfigError("nested too deeply (an alias of itself?)", key=name) from None
    return YamlSource(value, name, reader.places)


class _Reader:
    """Turns nodes into values and remembers the line of each."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.places: dict[KeyPath, str] = {}
        self._nodes = 0

    def read(self, node: yaml.Node, path: KeyPath) -> Any:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise ConfigError(f"more than {MAX_NODES:,} values (are aliases multiplying them?)", key=self.name)
        self.places.setdefault(path, self._place(node))
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, position)) for position, item in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        try:
            return _scalar(node)
        except ValueError as problem:
            raise ConfigError(problem, key=self._place(node)) from None

    def _mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        values: dict[str, Any] = {}
        for key_node, value_node in node.value:
            key = key_node.value if isinstance(key_node, yaml.ScalarNode) else None
            if not isinstance(key, str):
                raise ConfigError("a key must be plain text", key=self._place(key_node))
            if key in values:
                raise ConfigError(f"{one_line(key)}: key given twice; keep one", key=self._place(key_node))
            self.places[(*path, key)] = self._place(key_node)
            values[key] = self.read(value_node, (*path, key))
        return values

    def _place(self, node: yaml.Node) -> str:
        return f"{self.name}:{node.start_mark.line + 1}"


def _scalar(node: yaml.Node) -> Any:
    kind = node.tag.rpartition(":")[2]
    if kind == "null":
        return None
    if kind == "bool":
        return node.value.lower() == "true"
    if kind == "int":
        return read_integer(node.value)
    if kind == "float":
        return read_float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return Word(node.value) if kind == "word" else str(node.value)
