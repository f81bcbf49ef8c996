"""Which runs a comparison consists of, and what its table says of hand-written numbers."""

from pathlib import Path
from statistics import stdev

import pytest

from buttress.comparison import Comparison, Row
from buttress.errors import ConfigError
from buttress.sweep import plan, seeds_of, split_values

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
        ("{a: 1, b: 2}, {a: 2}", ["{a: 1, b: 2}", "{a: 2}"]),
        ("'a,b',\"c,d\"", ["'a,b'", '"c,d"']),
        ("", [""]),
    ],
)
def test_values_are_split_at_the_outer_commas(text: str, values: list[str]):
    assert split_values(text) == values


@pytest.mark.parametrize(("text", "seeds"), [("3", [0, 1, 2]), ("4,7", [4, 7]), ("1", [0])])
def test_seeds_are_a_number_or_a_list(text: str, seeds: list[int]):
    assert seeds_of(text) == seeds


@pytest.mark.parametrize("text", ["0", "-1", "a", "1,1", "2,-1", ""])
def test_wrong_seeds_are_refused(text: str):
    with pytest.raises(ConfigError, match="expected a number of seeds"):
        seeds_of(text)


def test_a_sweep_of_a_plugin_s_setting_applies_where_the_plugin_is(configs: list[Path]):
    variants = plan(configs, ["rwp.c_min=0,1.0,inf", "epochs=2"])
    assert [variant.label for variant in variants] == [
        "at",
        "rwp rwp.c_min=0",
        "rwp rwp.c_min=1.0",
        "rwp rwp.c_min=inf",
    ]
    assert variants[0].overrides == ("epochs=2",)
    assert variants[2].overrides == ("rwp.c_min=1.0", "epochs=2")
    assert [variant.run(3) for variant in variants] == [
        "at-s3", "rwp-rwp.c_min-0-s3", "rwp-rwp.c_min-1.0-s3", "rwp-rwp.c_min-inf-s3",
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


def test_run_folders_are_safe_and_differ(configs: list[Path]):
    variants = plan(configs[1:], ["rwp.x=[1],[1,2],../../etc"])
    assert [variant.run(0) for variant in variants] == [
        "rwp-rwp.x-_1-s0",
        "rwp-rwp.x-_1_2-s0",
        "rwp-rwp.x-.._.._etc-s0",
    ]


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["awp.gamma=1,2"], "none of the configs has a plugin 'awp'"),
        (["epochs"], "expected key=value"),
        (["rwp.x=a b,a_b"], "would share a run folder"),
    ],
)
def test_wrong_overrides_are_refused(configs: list[Path], overrides: list[str], message: str):
    with pytest.raises(ConfigError, match=message):
        plan(configs, overrides)


def test_two_configs_of_one_name_are_refused(configs: list[Path]):
    with pytest.raises(ConfigError, match="two configs are called 'at'"):
        plan([configs[0], configs[0]], [])


def comparison() -> Comparison:
    def values(best: float, last: float) -> dict[str, float]:
        found = {}
        for attack in ("clean", "pgd-20"):
            found |= {f"{attack} best": best, f"{attack} last": last, f"{attack} diff": best - last}
        return found

    at = Row("at", "live", {0: values(0.80, 0.70), 1: values(0.82, 0.76)})
    meat = Row("at", "meat", {0: values(0.80, 0.75), 1: values(0.82, 0.79)})
    awp = Row("awp", "live", {1: values(0.85, 0.84)})
    return Comparison(["pgd-20"], [at, meat, awp], {("awp", 0): "boom"}, "at", "validation", 100)


def test_the_table_has_means_sample_deviations_and_pairs():
    lines = comparison().table().splitlines()
    assert lines[0].split("  ")[0].strip() == "method"
    deviation = 100 * stdev([0.70, 0.76])
    assert f"73.0 +- {deviation:.1f}" in lines[2]
    paired = 100 * stdev([0.05, 0.03])
    assert f"+4.0 +- {paired:.1f}" in lines[3]
    assert "+8.0" in lines[4]  # seed 1 alone: 0.84 against 0.76
    assert lines[5].split() == ["awp", "failed", "seed", "0:", "boom"]


def test_markdown_has_as_many_cells_in_every_line():
    lines = comparison().table(markdown=True).splitlines()
    assert len({line.count("|") for line in lines}) == 1
    assert lines[1].startswith("|---|")
