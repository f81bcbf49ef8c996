"""Which runs a comparison consists of."""

import re
from pathlib import Path

import pytest

from buttress.comparing.sweep import baselines, plan, seeds_of, split_values
from buttress.errors import ConfigError

AT = "name: at\nplugins: [pgd]\nepochs: 4\n"
RWP = "name: rwp\nplugins:\n- pgd\n- rwp: {k2: 1}\nepochs: 4\n"


@pytest.fixture
def configs(tmp_path: Path) -> list[Path]:
    paths = []
    for text in (AT, RWP):
        path = tmp_path / f"{text.split()[1]}.yaml"
        path.write_text(text)
        paths.append(path)
    return paths


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("1", ["1"]),
        ("0,1.0,1.7,inf", ["0", "1.0", "1.7", "inf"]),
        ("[1],[1,2],[3,4]", ["[1]", "[1,2]", "[3,4]"]),
        ("{a: 1, b: [2, 3]}, {a: 2}", ["{a: 1, b: [2, 3]}", "{a: 2}"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("'[', ']'", ["'['", "']'"]),
        ("8/255,16/255", ["8/255", "16/255"]),
        ("", [""]),
    ],
)
def test_values_are_split_at_the_outer_commas(text: str, values: list[str]):
    assert split_values(text) == values


@pytest.mark.parametrize(
    ("overrides", "option", "seeds"),
    [
        ([], None, [0, 1, 2]),
        ([], "2", [0, 1]),
        ([], "4,7", [4, 7]),
        ([], "1", [0]),
        (["seed=7"], None, [7]),
        (["seed=4,7"], None, [4, 7]),
    ],
)
def test_seeds_are_a_number_or_a_list_or_an_override(overrides: list[str], option: str | None, seeds: list[int]):
    assert seeds_of(["epochs=2", *overrides], option) == (["epochs=2"], seeds)


@pytest.mark.parametrize(
    "text", ["0", "-1", "a", "1,1", "2,-1", "", "1:9", "1_0", "\u0663", "9" * 5000, "1,9223372036854775808"]
)
def test_wrong_seeds_are_refused(text: str):
    with pytest.raises(ConfigError, match=r"--seeds .*: expected a number of seeds"):
        seeds_of([], text)


@pytest.mark.parametrize("text", ["10001", "1000000000000", "9" * 19])
def test_a_number_of_seeds_without_measure_is_refused(text: str):
    with pytest.raises(ConfigError, match=r"--seeds .*: expected at most 10,000 seeds"):
        seeds_of([], text)


@pytest.mark.parametrize("text", ["-1", "a", "1,1", "2,-1", "", "0.5"])
def test_a_wrong_seed_as_an_override_is_refused(text: str):
    with pytest.raises(ConfigError, match=f"override 'seed={text}': expected different seeds"):
        seeds_of([f"seed={text}"], None)


@pytest.mark.parametrize(("overrides", "option"), [(["seed=7"], "3"), (["seed=7", "seed=8"], None)])
def test_seeds_given_twice_are_refused(overrides: list[str], option: str | None):
    with pytest.raises(ConfigError, match="seeds are given twice"):
        seeds_of(overrides, option)


@pytest.mark.parametrize("key", ["rwp.c_min", "plugins.rwp.c_min"])
def test_a_sweep_of_a_plugin_s_setting_applies_where_the_plugin_is(configs: list[Path], key: str):
    variants = plan(configs, [f"{key}=0,1.0,inf", "epochs=2"])
    assert [variant.label for variant in variants] == ["at", f"rwp {key}=0", f"rwp {key}=1.0", f"rwp {key}=inf"]
    assert variants[0].overrides == ("epochs=2",)
    assert variants[2].overrides == (f"{key}=1.0", "epochs=2")
    assert [variant.run(3) for variant in variants] == [
        "at-s3", f"rwp-{key}-0-s3", f"rwp-{key}-1.0-s3", f"rwp-{key}-inf-s3",
    ]  # fmt: skip


def test_several_sweeps_are_their_product(configs: list[Path]):
    variants = plan(configs, ["rwp.k2=1,2", "data.batch_size=8,16"])
    assert [variant.settings for variant in variants] == [
        ("data.batch_size=8",),
        ("data.batch_size=16",),
        ("rwp.k2=1", "data.batch_size=8"),
        ("rwp.k2=1", "data.batch_size=16"),
        ("rwp.k2=2", "data.batch_size=8"),
        ("rwp.k2=2", "data.batch_size=16"),
    ]


def test_the_list_of_plugins_itself_can_be_swept(configs: list[Path]):
    (one, two) = plan(configs[:1], ["plugins=[pgd],[pgd, {meat: {start: 1}}]"])
    assert (one.label, two.label) == ("at plugins=[pgd]", "at plugins=[pgd, {meat: {start: 1}}]")
    assert two.run(0) == "at-plugins-_pgd_meat_start_1-s0"


def test_run_folders_are_safe_and_differ(configs: list[Path]):
    variants = plan(configs[1:], ["rwp.x=[1],[1,2],../../etc"])
    assert [variant.run(0) for variant in variants] == [
        "rwp-rwp.x-_1-s0",
        "rwp-rwp.x-_1_2-s0",
        "rwp-rwp.x-.._.._etc-s0",
    ]


def test_long_names_of_run_folders_are_cut_and_differ(configs: list[Path]):
    names = [variant.run(12345678) for variant in plan(configs[1:], [f"rwp.x={'a' * 200}1,{'a' * 200}2"])]
    assert len(set(names)) == 2
    assert all(re.fullmatch(r"rwp-rwp\.x-a{71}-[0-9a-f]{8}-s12345678", name) for name in names)
    assert all(len(name) <= 100 for name in names)  # the longest name that a run may have


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["awp.gamma=1,2"], "none of the configs has a key or a plugin 'awp'; did you mean 'rwp'?"),
        (["epcohs=3"], "did you mean 'epochs'?"),
        (["epochs"], "expected key=value"),
        (["=3"], "expected key=value"),
        (["epochs=2", "epochs=3"], "epochs is given twice; list its values"),
        (["epochs=2,"], "expected different values between the commas"),
        (["epochs=2,2"], "expected different values between the commas"),
        (["seed=1"], "use --seeds"),
        (["name=a,b"], "use --name"),
        (["rwp.x=a b,a_b"], "would share the run folder rwp-rwp.x-a_b-s0"),
    ],
)
def test_wrong_overrides_are_refused(configs: list[Path], overrides: list[str], message: str):
    with pytest.raises(ConfigError, match=re.escape(message)):
        plan(configs, overrides)


def test_two_configs_of_one_name_are_refused(configs: list[Path]):
    with pytest.raises(ConfigError, match="two configs are called 'at'"):
        plan([configs[0], configs[0]], [])


# Baselines


def test_the_first_method_is_the_baseline(configs: list[Path]):
    variants = plan(configs, ["rwp.k2=1,2"])
    assert baselines(variants, None) == {"at": "at", "rwp rwp.k2=1": "at", "rwp rwp.k2=2": "at"}
    assert set(baselines(variants, "rwp rwp.k2=2").values()) == {"rwp rwp.k2=2"}


def test_a_baseline_has_the_same_settings(configs: list[Path]):
    variants = plan(configs, ["threat.eps=1/10,2/10", "rwp.k2=1,2"])
    found = baselines(variants, "at")
    assert found["rwp threat.eps=2/10 rwp.k2=1"] == "at threat.eps=2/10"
    assert found["at threat.eps=1/10"] == "at threat.eps=1/10"
    assert len(found) == len(variants)
    assert "at threat.eps=1/10" not in baselines(variants, "rwp")  # no counterpart: it has no k2


def test_the_first_value_is_the_baseline_of_a_single_method(configs: list[Path]):
    assert set(baselines(plan(configs[1:], ["rwp.k2=1,2"]), None).values()) == {"rwp rwp.k2=1"}


def test_an_unknown_baseline_is_refused(configs: list[Path]):
    with pytest.raises(ConfigError, match=r"--baseline 'awp': expected one of at, rwp$"):
        baselines(plan(configs, []), "awp")
