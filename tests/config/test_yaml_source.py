"""Strict YAML: plain values as YAML 1.2 reads them, every mistake with its line."""

import math
from pathlib import Path
from typing import Any

import pytest

from buttress.config.yaml_source import MAX_BYTES, MAX_NODES, parse_yaml, read_yaml
from buttress.errors import ConfigError
from buttress.number_text import Word


def value(text: str) -> Any:
    return parse_yaml(f"key: {text}", "f.yaml").value["key"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2e-3", 0.002),
        ("1E5", 100000.0),
        ("-.5", -0.5),
        ("+1.5", 1.5),
        ("1.", 1.0),
        ("12", 12),
        ("-7", -7),
        ("+3", 3),
        ("010", 10),
        ("true", True),
        ("False", False),
        ("null", None),
        ("~", None),
        ("", None),
        ("yes", Word("yes")),
        ("no", Word("no")),
        ("on", Word("on")),
        ("off", Word("off")),
        ("NO", Word("NO")),
        ("None", Word("None")),
        ("nope", "nope"),
        ("'no'", "no"),
        ('"off"', "off"),
        ("12:30:45", "12:30:45"),
        ("1_000", "1_000"),
        ("2001-01-01", "2001-01-01"),
        ("8/255", "8/255"),
        ("'12'", "12"),
        ('"true"', "true"),
        ("'null'", "null"),
        ("plain text", "plain text"),
        ("|\n  two\n  lines", "two\nlines"),
        ("[1, 2.5, x]", [1, 2.5, "x"]),
        ("{a: 1}", {"a": 1}),
        (".inf", math.inf),
        ("-.inf", -math.inf),
    ],
)
def test_scalars_are_those_of_yaml_1_2(text: str, expected: Any):
    parsed = value(text)
    assert parsed == expected
    assert type(parsed) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [(".Inf", math.inf), ("-.INF", -math.inf), (".NaN", None), (".NAN", None), (".nan", None)],
)
def test_infinity_and_nan_in_any_spelling_of_yaml_1_2(text: str, expected: Any):
    number = value(text)
    assert isinstance(number, float)
    assert math.isnan(number) if expected is None else number == expected


@pytest.mark.parametrize(("text", "expected"), [("0o17", 15), ("0xFF", 255)])
def test_octal_and_hexadecimal_integers(text: str, expected: int):
    assert value(text) == expected


def test_an_integer_of_thousands_of_digits_is_refused_by_name():
    with pytest.raises(ConfigError, match=r"f.yaml:1"):
        value("9" * 5000)


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        (
            "a: 1\nb: !!python/object/apply:os.system [true]",
            2,
            "YAML tag 'tag:yaml.org,2002:python/object/apply:os.system' is",
        ),
        ("a: !!str 1", 1, "YAML tag"),
        ("a: 1\n\nb: !custom {x: 1}", 3, "YAML tag '!custom' is refused; write the plain value"),
        ("a: !!binary aGk=", 1, "YAML tag"),
    ],
)
def test_tags_are_refused_with_their_line(text: str, line: int, what: str):
    with pytest.raises(ConfigError, match=rf"^f\.yaml:{line}: {what}"):
        parse_yaml(text, "f.yaml")


@pytest.mark.parametrize(
    ("text", "line", "key"),
    [
        ("a: 1\nb: 2\na: 3", 3, "a"),
        ("s:\n  x: 1\n  x: 1", 3, "x"),
        ("a: 1\n'a': 2", 2, "a"),
        ("l:\n- {y: 1, y: 2}", 2, "y"),
    ],
)
def test_a_key_given_twice_is_refused_with_the_second_line(text: str, line: int, key: str):
    with pytest.raises(ConfigError, match=rf"^f\.yaml:{line}: {key}: key given twice; keep one"):
        parse_yaml(text, "f.yaml")


@pytest.mark.parametrize("text", ["[a, b]: 1", "{a: 1}: 2", "? [x]\n: 1"])
def test_a_key_must_be_plain_text(text: str):
    with pytest.raises(ConfigError, match=r"f\.yaml:1: a key must be plain text"):
        parse_yaml(text, "f.yaml")


def bomb(levels: int, width: int) -> str:
    lines = ["a0: &a0 [x, x]"]
    for level in range(1, levels):
        lines.append(f"a{level}: &a{level} [{', '.join([f'*a{level - 1}'] * width)}]")
    return "\n".join(lines)


def test_aliases_that_multiply_are_stopped():
    with pytest.raises(ConfigError, match=rf"more than {MAX_NODES:,} values \(are aliases multiplying them\?\)"):
        parse_yaml(bomb(12, 9), "f.yaml")


def test_an_alias_of_itself_is_stopped():
    with pytest.raises(ConfigError, match=r"nested too deeply|more than"):
        parse_yaml("a: &a [*a]", "f.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "- " * 1_500,
        "[" * 1_500,
        "{a: " * 1_500,
        "[" * 200 + "]" * 200,
    ],
)
def test_deep_nesting_is_stopped_at_its_depth(text: str):
    with pytest.raises(ConfigError, match=r"f\.yaml.*: nested too deeply"):
        parse_yaml(text, "f.yaml")


def test_an_honest_alias_is_a_copy():
    parsed = parse_yaml("a: &x {v: 1}\nb: *x", "f.yaml").value
    assert parsed == {"a": {"v": 1}, "b": {"v": 1}}
    assert parsed["a"] is not parsed["b"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: [1, 2", 1), ("a: 1\nb: c: d", 2), ("a: 1\n\tb: 2", 2), ("a: 'x", 1), ("a: *nobody", 1), ("@", 1)],
)
def test_broken_yaml_is_named_with_its_line(text: str, line: int):
    with pytest.raises(ConfigError, match=rf"^f\.yaml:{line}: not valid YAML: "):
        parse_yaml(text, "f.yaml")


def test_several_documents_are_refused():
    with pytest.raises(ConfigError, match=r"^f\.yaml"):
        parse_yaml("a: 1\n---\nb: 2", "f.yaml")


def test_an_empty_file_is_none():
    assert parse_yaml("", "f.yaml").value is None
    assert parse_yaml("# only a comment\n", "f.yaml").value is None


def test_every_key_knows_its_line():
    text = "name: x\nplugins:\n  - pgd:\n      steps: 3\n  - clean\ndata: {name: d,\n  size: 4}\n"
    source = parse_yaml(text, "f.yaml")
    for path, line in [
        (("name",), 1),
        (("plugins",), 2),
        (("plugins", 0), 3),
        (("plugins", 0, "pgd", "steps"), 4),
        (("plugins", 1), 5),
        (("data", "size"), 7),
    ]:
        assert str(source.place.under(*path)).startswith(f"f.yaml:{line}: "), path
    assert str(source.place.under("plugins", 0, "pgd", "steps")) == "f.yaml:4: plugins.pgd.steps"


def test_a_missing_key_is_placed_at_the_nearest_key_above_it():
    source = parse_yaml("a: 1\nthreat:\n  eps: 1\n", "f.yaml")
    assert str(source.place.under("threat", "norm")) == "f.yaml:2: threat.norm"
    assert str(source.place.under("epochs")) == "f.yaml:1: epochs"


# Files


def test_a_file_is_read_with_its_path(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text("a: é\n", encoding="utf-8")
    source = read_yaml(path)
    assert source.value == {"a": "é"}
    assert str(source.place.under("a")) == f"{path}:1: a"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: \xff\xfe", "expected UTF-8 text"),
        (b"#" * (MAX_BYTES + 1), "cannot be read: expected at most 100,000 bytes, it has more"),
    ],
)
def test_a_file_that_is_no_config_is_refused(tmp_path: Path, content: bytes, message: str):
    (tmp_path / "c.yaml").write_bytes(content)
    with pytest.raises(ConfigError, match=rf"c\.yaml: {message}"):
        read_yaml(tmp_path / "c.yaml")


def test_a_file_that_is_missing_or_a_folder_is_named(tmp_path: Path):
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        read_yaml(tmp_path / "none.yaml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        read_yaml(tmp_path)
