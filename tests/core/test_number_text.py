"""Numbers of a config as text: what never ends, or what no float holds, is refused by how it is written."""

import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import pytest

from buttress import ThreatModel
from buttress.analysis.part import Options
from buttress.cli import main
from buttress.components.construct import build
from buttress.config.file import ConfigFile
from buttress.config.overrides import apply_override
from buttress.config.yaml_source import YamlSource, parse_yaml, read_yaml
from buttress.errors import ConfigError
from buttress.number_text import LONGEST, exact_fraction

CONFIG = """
name: small
data: {name: circles, per_class: 4}
model: {name: mlp, hidden: [2]}
threat: {norm: linf, eps: 1/10, box: null}
plugins: [{pgd: {steps: 1}}]
optimizer: {name: sgd, lr: 0.1}
epochs: 1
"""

ENDLESS = {
    "a huge exponent": "1e99999999999",
    "a tiny exponent": "1e-30000000",
    "an exponent beyond every float": "1e-5000",
    "a fraction with an exponent": "1/1e400",
    "a million digits": "9" * 10**6,
    "a huge numerator": "9" * 5000 + "/7",
    "a huge denominator": "1/" + "7" * 5000,
    "an exponent of a million digits": "1e" + "9" * 10**6,
    "digits of another script": "\u0661/\u0662",
    "digits with underscores": "1_0/2_0",
    "more than a float holds": "1e400",
    "less than a float holds": "1e-400",
    "less than a float holds, as a fraction": "1/1" + "0" * 350,
    "infinity": "inf",
    "no number": "nan",
}


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_a_number_that_is_too_much_is_refused_by_its_text(text: str):
    with pytest.raises(ValueError, match=r"^expected a") as refused:
        exact_fraction(text)
    assert len(str(refused.value)) < 2 * LONGEST


@pytest.mark.parametrize("text", ENDLESS.values(), ids=ENDLESS)
def test_every_door_refuses_it(text: str):
    with pytest.raises(ConfigError, match="eps"):
        ThreatModel("linf", text)
    with pytest.raises(ConfigError, match=r"pgd\.step_size: expected"):
        build("plugin", "pgd", {"step_size": text})
    for key in ("threat.eps", "pgd.step_size", "optimizer.lr", "plugins.pgd.steps"):
        for written in (text, f"'{text}'"):
            if len(written) < 100_000:
                with pytest.raises(ConfigError, match=r"expected|number"):
                    check(apply_override(parse_yaml(CONFIG, "c.yaml"), f"{key}={written}"))


def check(source: YamlSource) -> None:
    file = ConfigFile(source)
    for entry in file.config.plugins:
        ((name, settings),) = entry.items()
        build("plugin", name, settings)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("8/255", Fraction(8, 255)),
        (" 8 / 255 ", Fraction(8, 255)),
        ("+.5", Fraction(1, 2)),
        ("5.", Fraction(5)),
        ("-2e-3", Fraction(-1, 500)),
        ("1e308", Fraction(10**308)),
        ("5e-324", Fraction(5, 10**324)),
        ("0e400", Fraction(0)),
        ("0." + "1" * 390, Fraction(int("1" * 390), 10**390)),
    ],
)
def test_ordinary_numbers_stay_exact(text: str, expected: Fraction):
    assert exact_fraction(text) == expected


@pytest.mark.parametrize("text", ["1e999", "-1e999", "1e-999", "0x" + "f" * 50_000, "9" * 50_000, "1e99999999999"])
def test_a_plain_number_of_yaml_is_neither_made_infinite_nor_zero(text: str):
    with pytest.raises(ConfigError, match=r"^f\.yaml:1: expected a number"):
        parse_yaml(f"key: {text}", "f.yaml")


@pytest.mark.parametrize("value", [2**63, -(2**63) - 1, 10**300, 1e300])
def test_an_integer_setting_is_one_of_64_bits(value: float):
    with pytest.raises(ConfigError, match=r"pgd\.steps: expected an integer that 64 bits hold"):
        build("plugin", "pgd", {"steps": value})


@pytest.mark.parametrize(
    "override",
    ["epochs=1000000000000000000", "log_every=1e30", "data.batch_size=10000000000", "evaluation.every=99999999999"],
)
def test_a_count_without_measure_is_refused_before_anything_is_counted(override: str):
    with pytest.raises(ConfigError, match=override.partition("=")[0]):
        ConfigFile(apply_override(parse_yaml(CONFIG, "c.yaml"), override))


def test_a_file_without_end_is_refused_by_its_first_bytes():
    with pytest.raises(ConfigError, match=r"/dev/zero: "):
        read_yaml(Path("/dev/zero"))


def test_the_command_refuses_a_config_that_never_ends(tmp_path: Path):
    (tmp_path / "c.yaml").write_text(CONFIG.replace("1/10", '"1e99999999999"'))
    command = [sys.executable, "-c", "from buttress.cli import main; raise SystemExit(main())", "config", "validate"]
    done = subprocess.run([*command, str(tmp_path / "c.yaml")], capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    assert "c.yaml:5: threat.eps: expected a number that a float can hold, got an exponent beyond 400" in done.stderr


@pytest.mark.parametrize(
    ("kind", "name", "setting"),
    [
        ("plugin", "pgd", "steps"),
        ("plugin", "pgd", "restarts"),
        ("plugin", "amp", "steps"),
        ("plugin", "rwp", "k2"),
        ("attack", "spsa", "samples"),
        ("attack", "cw", "steps"),
        ("attack", "mifgsm", "steps"),
        ("dataset", "circles", "per_class"),
        ("dataset", "image_folder", "size"),
        ("dataset", "image_folder", "workers"),
    ],
)
def test_what_would_repeat_or_allocate_without_end_is_bounded(kind: str, name: str, setting: str):
    with pytest.raises(ConfigError, match=rf"{name}\.{setting}: expected less than or equal to [0-9]+, got"):
        build(kind, name, {setting: 10**9} | ({"root": "x"} if name == "image_folder" else {}))


@pytest.mark.parametrize("word", ["1_0", "\u0661", "9" * 5000, "1e3", "0x10", "", "1.0"])
@pytest.mark.parametrize("option", ["--examples", "--points", "--seed"])
def test_numbers_of_the_command_line_are_plain_digits(word: str, option: str, capsys: pytest.CaptureFixture):
    assert main(["analyze", "run", f"{option}={word}"]) == 2
    last_line = capsys.readouterr().err.splitlines()[-1]
    assert f"error: {option}: expected a whole number of at most 18 digits, got" in last_line
    assert len(last_line) < 200


def test_a_landscape_has_so_many_points_at_most():
    with pytest.raises(ConfigError, match="--points 100000001: expected an odd number from 3 to 1001"):
        Options(points=100_000_001)
