"""The configuration: every mistake in one message with its line; overrides; what is resolved reads back."""

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from buttress.config.file import ConfigFile, dump_config, load_config
from buttress.config.overrides import apply_override
from buttress.config.schema import schema
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError, InputError, nearest
from buttress.training.threat_model import threat_of

CONFIG = """\
name: small
data: {name: digits, train_per_class: 5}
model: {name: preact_tiny}
threat: {norm: linf, eps: 1/10}
plugins:
  - pgd: {steps: 3}
  - clean
  - meat:
      start: 0.4
optimizer: {lr: 0.3}
epochs: 4
"""


def parsed(text: str) -> ConfigFile:
    return ConfigFile(parse_yaml(text, "c.yaml"))


def changed(old: str, new: str) -> str:
    assert old in CONFIG
    return CONFIG.replace(old, new)


def message(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parsed(text)
    return str(caught.value)


def test_a_mistyped_key_is_named_before_the_one_that_is_missing_for_it():
    first, second = message(changed("name: small", "nmae: small")).splitlines()
    assert first == "c.yaml:1: nmae: unknown key; did you mean 'name'?"
    assert second.endswith("name: required, and not given")


def test_a_small_config_gets_every_default():
    config = parsed(CONFIG).config
    assert config.threat.eps == Fraction(1, 10)
    assert config.plugins == [{"pgd": {"steps": 3}}, {"clean": {}}, {"meat": {"start": 0.4}}]
    assert config.data.settings() == {"train_per_class": 5}
    assert (config.seed, config.device, config.backend, config.checks) == (0, "auto", "auto", "auto")
    assert (config.evaluation.best_by, config.checkpoint.keep, config.schedule.name) == ("validation", 3, "constant")
    assert config.threat.box == [0.0, 1.0]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epochs: 4", "epochz: 4", "c.yaml:11: epochz: unknown key; did you mean 'epochs'?"),
        ("epochs: 4", "epochs: 0", "c.yaml:11: epochs: expected"),
        ("epochs: 4", "epochs: 4.0", "c.yaml:11: epochs: expected a valid integer, got 4.0"),
        ("epochs: 4", "epochs: '4'", "c.yaml:11: epochs: expected a valid integer, got '4'"),
        ("epochs: 4", "epochs: true", "c.yaml:11: epochs: expected a valid integer, got True"),
        ("epochs: 4", "", "c.yaml:1: epochs: expected either epochs or steps as the length of the run, got neither"),
        (
            "epochs: 4",
            "epochs: 4\nsteps: 9",
            "c.yaml:11: epochs: expected either epochs or steps as the length of the run",
        ),
        ("epochs: 4", "steps: 0", "c.yaml:11: steps: expected greater than or equal to 1, got 0"),
        ("norm: linf", "norm: l1", "c.yaml:4: threat.norm: expected 'linf' or 'l2', got 'l1'"),
        ("eps: 1/10", "eps: 1/0", "c.yaml:4: threat.eps: expected a finite fraction like 8/255, got '1/0'"),
        ("eps: 1/10", "eps: .nan", "c.yaml:4: threat.eps: expected a finite number"),
        ("eps: 1/10", "eps: -1", "c.yaml:4: threat.eps: expected a value >= 0, got -1"),
        ("eps: 1/10", "eps: 1, box: [0]", "c.yaml:4: threat.box: "),
        ("eps: 1/10", "epsilon: 1", "c.yaml:4: threat.epsilon: unknown key; did you mean 'eps'?"),
        ("lr: 0.3", "lr: 0", "c.yaml:10: optimizer.lr: expected greater than 0, got 0"),
        ("lr: 0.3", "lr: .inf", "c.yaml:10: optimizer.lr: expected a finite number, got inf"),
        ("{lr: 0.3}", "0.3", "c.yaml:10: optimizer: "),
        ("  - clean\n", "  - 3\n", "c.yaml:7: plugins: expected a name or 'name: {settings}', got 3"),
        ("  - clean\n", "  - {clean: {}, fgsm: {}}\n", "c.yaml:7: plugins: expected a name or 'name: {settings}'"),
        ("name: small", "name: ../up", "c.yaml:1: name: "),
        ("name: small", "name: ''", "c.yaml:1: name: "),
        ("name: small", "name: .hidden", "c.yaml:1: name: "),
        ("name: digits", "nam: digits", "c.yaml:2: data: expected exactly one of name and target"),
        (
            "{name: preact_tiny}",
            "{name: preact_tiny, target: 'a:B'}",
            "c.yaml:3: model: expected exactly one of name and target",
        ),
        ("{name: preact_tiny}", "{width: 3}", "c.yaml:3: model: expected exactly one of name and target"),
        ("{name: preact_tiny}", "{target: 'a:B', width: 3}", "c.yaml:3: model.width: unknown key; arguments of target"),
        ("{name: preact_tiny}", "{name: preact_tiny, args: {a: 1}}", "c.yaml:3: model.args: args belong to target"),
    ],
)
def test_a_mistake_is_named_with_file_line_and_key(old: str, new: str, expected: str):
    assert expected in message(changed(old, new))


def test_every_mistake_is_in_one_message():
    text = changed("epochs: 4", "epochs: 0").replace("norm: linf", "norm: l1").replace("lr: 0.3", "lr: -1")
    lines = message(text).splitlines()
    assert [line.split(": ")[0] for line in lines] == ["c.yaml:4", "c.yaml:10", "c.yaml:11"]


@pytest.mark.parametrize(("text", "kind"), [("", "NoneType"), ("[1]", "list"), ("just text", "str"), ("3", "int")])
def test_a_config_is_a_mapping(text: str, kind: str):
    assert message(text) == f"c.yaml: expected a mapping of keys, got {kind}"


# Schedules


def test_a_schedule_is_built_and_resolved():
    text = CONFIG + "schedule: {name: piecewise, milestones: [0.5, 3]}\n"
    schedule, settings = parsed(text).schedule(4)
    assert schedule.drops(4) == [2, 3]
    assert settings == {"milestones": [0.5, 3], "factor": 0.1, "per": "epoch"}


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        ("{name: piecewize}", "c.yaml:12: schedule.name: unknown schedule 'piecewize'; did you mean 'piecewise'?"),
        ("{name: piecewise}", "c.yaml:12: schedule.milestones: required, and not given"),
        ("{name: constant, factor: 3}", "c.yaml:12: schedule.factor: unknown key"),
        ("{name: piecewise, milestones: [3, 2]}", "schedule.milestones: expected increasing epochs, got [3, 2]"),
        (
            "{name: piecewise, milestones: [2, 4]}",
            "c.yaml:12: schedule.milestones: a time of 4 epochs never comes: the run has 4;",
        ),
        ("{name: piecewise, milestones: [2.5]}", "c.yaml:12: schedule.milestones: a drop at 2.5 lies inside an epoch"),
        ("{name: piecewise, milestones: [1, 2], factor: [0.5]}", "schedule.factor: expected one factor, or one for"),
        (
            "{name: linear, knots: [9], factors: [1], final: 0.1}",
            "c.yaml:12: schedule.knots: a time of 9 epochs never comes",
        ),
        ("{name: cosine, start: 4}", "c.yaml:12: schedule.start: a time of 4 epochs never comes"),
    ],
)
def test_a_wrong_schedule_is_refused(section: str, expected: str):
    file = parsed(CONFIG + f"schedule: {section}\n")
    with pytest.raises(InputError) as caught:
        file.schedule(4)
    assert expected in str(caught.value)


# What is said of a mistake


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("epochs: 4", "epochs: 4\nmodle: {name: mlp}", "c.yaml:12: modle: unknown key; did you mean 'model'?"),
        ("epochs: 4", "Epochs: 4", "c.yaml:11: Epochs: unknown key; did you mean 'epochs'?"),
        ("eps: 1/10", "esp: 1/10", "c.yaml:4: threat.esp: unknown key; did you mean 'eps'?"),
        (
            CONFIG[CONFIG.index("\n  - pgd") : CONFIG.index("optim")],
            " {clean: }\n",
            "; write each as an entry: [clean: ...]",
        ),
        ("epochs: 4", "epochs: 4\nloggers: tensorboard", "expected a list, got 'tensorboard'; write [tensorboard]"),
        ("epochs: 4", "epochs: 4\ndisable: swa", "disable: expected a list, got 'swa'; write [swa]"),
    ],
)
def test_a_mistake_is_told_what_to_write(old: str, new: str, expected: str):
    assert expected in message(changed(old, new))


@pytest.mark.parametrize(
    ("name", "known", "expected"),
    [
        ("modle", ["model", "modules", "name"], "; did you mean 'model'?"),
        ("PGD", ["pgd", "awp"], "; did you mean 'pgd'?"),
        ("rat-wp", ["rat_wp", "rat_lr"], "; did you mean 'rat_wp'?"),
        ("Swa", ["swa", "awp"], "; did you mean 'swa'?"),
        ("zzz", ["b", "a"], "; known: a, b"),
        ("zzz", [], ""),
    ],
)
def test_the_nearest_name_is_the_one_that_was_meant(name: str, known: list[str], expected: str):
    assert nearest(name, known) == expected


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["data={name: digits, batch_size: 0}"], "override 'data={name: digits, batch_size: 0}': data.batch_size: "),
        (["plugins=[{clean: {a: 1}}]", "plugins=pgd"], "override 'plugins=pgd': plugins: expected a list"),
        (["model.target=a:B"], "override 'model.target=a:B': model.target: expected exactly one of name and target"),
        (["model={target: 'a:B', name: mlp}"], "override \"model={target: 'a:B', name: mlp}\": model: "),
        (["guards.collapse=roll_back", "checkpoint.every=3"], "override 'guards.collapse=roll_back': guards."),
    ],
)
def test_an_override_is_blamed_where_it_stands(overrides: list[str], expected: str):
    source = parse_yaml(CONFIG, "c.yaml")
    for override in overrides:
        source = apply_override(source, override)
    with pytest.raises(ConfigError) as caught:
        ConfigFile(source)
    assert str(caught.value).startswith(expected)


def test_of_several_keys_the_one_that_an_override_set_is_blamed():
    text = CONFIG + "guards: {collapse: roll_back}\nschedule: {name: piecewise, milestones: [1, 0.5]}\n"
    with pytest.raises(ConfigError, match=r"^override 'checkpoint.every=3': checkpoint.every: roll_back needs"):
        ConfigFile(apply_override(parse_yaml(text, "c.yaml"), "checkpoint.every=3"))
    with pytest.raises(ConfigError, match=r"^override 'epochs=2': epochs: expected increasing epochs"):
        ConfigFile(apply_override(parse_yaml(text, "c.yaml"), "epochs=2")).schedule(2)
    with pytest.raises(
        ConfigError, match=r"^override 'threat.box=\[0, 0.01\]': threat.box: threat.eps: 1/10 reaches beyond"
    ):
        threat_of(ConfigFile(apply_override(parse_yaml(CONFIG, "c.yaml"), "threat.box=[0, 0.01]")))


# The attack of the evaluation


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("pgd-20", {"pgd": {"steps": 20}}),
        ("{pgd-20: {restarts: 3}}", {"pgd": {"steps": 20, "restarts": 3}}),
        ("buttress:pgd-20", {"buttress:pgd": {"steps": 20}}),
        ("pgd", {"pgd": {}}),
        ("{pgd: {steps: 20}}", {"pgd": {"steps": 20}}),
        ("fgsm", {"fgsm": {}}),
    ],
)
def test_the_attack_of_the_evaluation_is_written_as_on_the_command_line(text: str, expected: object):
    assert parsed(CONFIG + f"evaluation: {{attack: {text}}}\n").config.evaluation.attack == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "{pgd-20: {steps: 10}}",
            "c.yaml:12: evaluation.attack: pgd-20 says the number of steps, and steps says it again",
        ),
        ("3", "c.yaml:12: evaluation.attack: expected a name or 'name: {settings}', got 3"),
    ],
)
def test_an_attack_that_is_no_attack_is_refused(text: str, expected: str):
    assert expected in message(CONFIG + f"evaluation: {{attack: {text}}}\n")


# Words and numbers: what they mean, the type of the key says


def test_words_are_truth_values_where_one_is_expected():
    file = parsed(CONFIG + "deterministic: off\nevaluation: {train: yes, best_by: test}\nguards: {collapse: off}\n")
    config = file.config
    assert (config.deterministic, config.evaluation.train, config.guards.collapse) == (False, True, "off")


def test_fractions_are_numbers_where_one_is_expected():
    config = parsed(changed("lr: 0.3", "lr: 1/10").replace("eps: 1/10", "eps: 1, box: [-1/2, 3/2]")).config
    assert (config.optimizer.lr, config.threat.box) == (0.1, [-0.5, 1.5])


def test_a_resolved_config_keeps_words_that_are_text():
    resolved = {"collapse": "off", "track": "no", "none": "None", "flag": False}
    assert parse_yaml(dump_config(resolved), "").value == resolved
    assert {type(value) for value in parse_yaml(dump_config(resolved), "").value.values()} == {str, bool}


# Overrides


def overridden(*overrides: str) -> Any:
    source = parse_yaml(CONFIG, "c.yaml")
    for override in overrides:
        source = apply_override(source, override)
    return source.value


@pytest.mark.parametrize(
    ("override", "look", "expected"),
    [
        ("epochs=10", lambda c: c["epochs"], 10),
        ("optimizer.lr=1e-2", lambda c: c["optimizer"]["lr"], 0.01),
        ("threat.eps=8/255", lambda c: c["threat"]["eps"], "8/255"),
        ("threat.box=[0, 2]", lambda c: c["threat"]["box"], [0, 2]),
        ("data.train_per_class=9", lambda c: c["data"], {"name": "digits", "train_per_class": 9}),
        ("evaluation.every=2", lambda c: c["evaluation"], {"every": 2}),
        ("pgd.steps=7", lambda c: c["plugins"][0], {"pgd": {"steps": 7}}),
        ("plugins.pgd.steps=7", lambda c: c["plugins"][0], {"pgd": {"steps": 7}}),
        ("meat.start=60", lambda c: c["plugins"][2], {"meat": {"start": 60}}),
        ("clean.x=1", lambda c: c["plugins"][1], {"clean": {"x": 1}}),
        ("plugins=[clean]", lambda c: c["plugins"], ["clean"]),
        ("name=a=b", lambda c: c["name"], "a=b"),
        ("schedule={name: piecewise, milestones: [1]}", lambda c: c["schedule"]["milestones"], [1]),
    ],
)
def test_an_override_sets_one_value(override: str, look: Any, expected: Any):
    assert look(overridden(override)) == expected


def test_overrides_apply_in_order_and_leave_the_source_alone():
    source = parse_yaml(CONFIG, "c.yaml")
    assert overridden("epochs=5", "epochs=6")["epochs"] == 6
    apply_override(source, "pgd.steps=9")
    assert source.value["plugins"][0] == {"pgd": {"steps": 3}}


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("epochs", "override 'epochs': expected key=value, for example epochs=10 or pgd.steps=5"),
        ("=3", "override '=3': expected key=value"),
        ("epochz=3", "override 'epochz=3': unknown key 'epochz'; did you mean 'epochs'?"),
        ("pdg.steps=3", "override 'pdg.steps=3': unknown key 'pdg.steps'; did you mean 'pgd'?"),
        ("pgd=3", "override 'pgd=3': expected pgd.SETTING=value; to leave the plugin out, list the others"),
        ("epochs.deep=3", "override 'epochs.deep=3': 'epochs' has no keys below it"),
        ("pgd.steps.deep=3", "override 'pgd.steps.deep=3': 'steps' has no keys below it"),
        ("epochs=[1", "override 'epochs=[1':1: not valid YAML"),
        ("epochs=!!int 3", "YAML tag 'tag:yaml.org,2002:int' is refused"),
    ],
)
def test_a_wrong_override_is_refused(override: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        overridden(override)
    assert expected in str(caught.value)


def test_a_mistake_in_an_override_names_the_override(tmp_path: Path):
    path = tmp_path / "c.yaml"
    path.write_text(CONFIG)
    with pytest.raises(ConfigError, match=r"^override 'epochs=none': epochs: expected a valid integer, got 'none'$"):
        load_config(path, ["epochs=none"])
    assert load_config(path, ["epochs=9", "threat.eps=0.25"]).config.threat.eps == Fraction(1, 4)


# Writing


def test_what_is_dumped_reads_back_to_the_same_config():
    config = parsed(CONFIG).config
    text = dump_config(config.model_dump(mode="json"))
    assert parsed(text).config == config


@pytest.mark.parametrize(
    "value",
    [
        *(1e-05, 2e-3, 1e22, 0.1, 10, 1e300, None, True),
        *("12:30", "yes", "null", "0x1F", "~", "1_0", "", "8/255", "2001-01-01", "[1]", "a: b", "é"),
        *(pytest.param(text) for text in ("1e5", "1.5e3", "0o17")),
    ],
)
def test_a_dumped_value_reads_back_as_it_was(value: Any):
    read = parse_yaml(dump_config({"key": value}), "d.yaml").value["key"]
    assert read == value
    assert type(read) is type(value)


WEIGHTS = [
    ("a.pth", ("a.pth", [], None)),
    ("{file: a.pth}", ("a.pth", [], None)),
    ("{file: a.pth, except: [fc, 'head.*']}", ("a.pth", ["fc", "head.*"], None)),
    ("{file: a.pth, key: ema}", ("a.pth", [], "ema")),
]


@pytest.mark.parametrize(("written", "expected"), WEIGHTS)
def test_weights_are_a_file_or_a_mapping_and_read_back_as_written(written: str, expected: tuple[Any, ...]):
    config = parsed(changed("preact_tiny}", f"preact_tiny, weights: {written}}}")).config
    section = config.model.weights
    assert section is not None
    assert (section.file, section.fresh, section.key) == expected
    again = parsed(dump_config(config.model_dump(mode="json"))).config
    assert again == config
    assert isinstance(config.model_dump()["model"]["weights"], str if expected[1:] == ([], None) else dict)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("3", "model.weights: expected a file, or {file: FILE, except: [NAME]}, got 3"),
        ("{except: [fc]}", "model.weights.file: required"),
        ("{file: a.pth, exept: [fc]}", "model.weights.exept: unknown key; did you mean 'except'?"),
        ("{file: a.pth, fresh: [fc]}", "model.weights.fresh: unknown key"),
        ("{file: a.pth, except: fc}", "model.weights.except: expected a list, got 'fc'; write [fc]"),
    ],
)
def test_wrong_weights_are_refused(written: str, expected: str):
    assert f"c.yaml:3: {expected}" in message(changed("preact_tiny}", f"preact_tiny, weights: {written}}}"))


def test_the_schema_describes_every_key():
    json_schema = schema()
    assert set(json_schema["required"]) == {"name", "data", "model", "threat", "plugins", "optimizer"}

    def undescribed(node: dict[str, Any], path: str) -> list[str]:
        missing = []
        for key, part in node.get("properties", {}).items():
            if "description" not in part and "$ref" not in part:
                missing.append(f"{path}.{key}")
        return missing

    definitions = json_schema["$defs"].items()
    assert [key for name, node in definitions for key in undescribed(node, name)] == []
