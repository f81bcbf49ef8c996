"""Attack losses are components: found by name, with settings, checked, refused in one line, named in tables."""

from hashlib import sha256
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from buttress import ButtressError, Engine, Split, ThreatModel, evaluate, load_attack_loss
from buttress.components import sources as installed
from buttress.components.loaded import load_plugins
from buttress.components.plugins_file import PluginsFile
from buttress.components.sources import Source
from buttress.config.file import dump_config, load_config
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError, HookError, PluginError
from buttress.scoring.attacks import attack_entry, attack_name, load_attack, name_of_entry
from buttress.training.manifest import code_records
from buttress_plugins.attacks.apgd import APGD
from buttress_plugins.attacks.pgd import PGD
from buttress_plugins.transforms.label_smoothing import LabelSmoothing

from ..models import ConvNet
from .conftest import batch_of, engine_of

LINF = ThreatModel("linf", "1/10")
OWN = """
import torch
import torch.nn.functional as F


class Tempered:
    '''Cross-entropy of logits that are divided by a temperature.

    Args:
        temperature: divisor of the logits.
    '''

    refuses = {"soft labels": "it takes one label"}
    flat_at_x = FLAT

    def __init__(self, *, temperature: float = 2.0) -> None:
        self.temperature = temperature

    def input_loss(self, model, batch, ctx):
        return lambda x: F.cross_entropy(model(x) / self.temperature, batch.y, reduction="none")


class Scalar:
    def input_loss(self, model, batch, ctx):
        return lambda x: model(x).sum()


class Nothing:
    pass


class Misspelt:
    refuses = {"soft label": "why"}

    def input_loss(self, model, batch, ctx): ...


class Few:
    def input_loss(self, model): ...
"""


@pytest.fixture(autouse=True)
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A distribution ``own-losses`` with losses in a module."""
    (tmp_path / "own_losses.py").write_text(OWN.replace("FLAT", "False"))
    (tmp_path / "flat_losses.py").write_text(OWN.replace("FLAT", "True"))
    monkeypatch.syspath_prepend(str(tmp_path))
    listed = dict(installed._listed())
    targets = {name.lower(): f"own_losses:{name}" for name in ("Tempered", "Scalar", "Nothing", "Misspelt", "Few")}
    targets |= {"flat": "flat_losses:Tempered", "gone": "own_losses:Gone"}
    mine = [Source("attack_loss", name, target, "own-losses", "1.0") for name, target in targets.items()]
    monkeypatch.setattr(installed, "_listed", lambda: {**listed, "attack_loss": [*listed["attack_loss"], *mine]})
    assert EntryPoint("tempered", targets["tempered"], "").load()


def test_a_loss_of_ones_own_is_taken_by_name_and_with_settings():
    batch = batch_of(dtype=torch.float64)
    answers = {}
    for name, loss in (("default", "tempered"), ("given", {"own-losses:tempered": {"temperature": 3}}), ("ce", "ce")):
        plugins = load_plugins([{"pgd": {"steps": 2, "start": "none", "loss": loss}}])
        engine = Engine(ConvNet().double(), lambda groups: torch.optim.SGD(groups, lr=0.1), plugins, LINF)
        answers[name] = engine.step(batch.x, batch.y).adv.x, plugins[0].settings["loss"]
    assert answers["default"][1] == {"tempered": {"temperature": 2.0}}  # with every default, for the manifest
    assert answers["given"][1] == {"own-losses:tempered": {"temperature": 3.0}}
    assert answers["ce"][1] == "ce"
    for _, written in answers.values():
        again = parse_yaml(dump_config({"pgd": {"loss": written}}), "again").value
        assert load_plugins([again])[0].settings["loss"] == written
    assert answers["default"][0].shape == batch.x.shape


@pytest.mark.parametrize("attack", ["pgd", "fgsm", "ifgsm", "mifgsm"])
@pytest.mark.parametrize("loss", ["ce", "margin", "tempered", {"tempered": {"temperature": 0.5}}], ids=str)
def test_every_gradient_attack_takes_every_loss(attack: str, loss: Any):
    batch = batch_of()
    score = evaluate(ConvNet(), Split(batch.x, batch.y), {attack: {"loss": loss}}, LINF)
    assert score.n == len(batch.x)


def test_the_origin_of_every_loss_is_recorded_by_its_name_in_the_config():
    plugins = load_plugins([{"pgd": {"loss": {"own-losses:tempered": {"temperature": 3}}}}, "trades"])
    records = code_records(plugins, load_attack({"pgd": {"loss": "margin"}}))
    assert list(records["plugins"]) == ["pgd", "trades"]
    losses = records["attack_losses"]
    assert list(losses) == ["own-losses:tempered", "margin"]
    own = losses["own-losses:tempered"]
    assert (own["distribution"], own["version"], own["entry_point"]) == ("own-losses", "1.0", "own_losses:Tempered")
    assert own["sha256"] == sha256(OWN.replace("FLAT", "False").encode()).hexdigest()
    assert losses["margin"]["distribution"] == "buttress"


def test_a_loss_of_a_file_serves_attacks_alone_and_is_among_the_known_names():
    local = PluginsFile(Path("mine.py"), OWN.replace("FLAT", "True").replace("Tempered", "Cooled")).components
    (pgd,) = load_plugins([{"pgd": {"loss": "cooled"}}], local=local)
    assert [(part.name, part.source.distribution) for part in pgd.parts] == [("cooled", "mine.py")]
    assert load_attack({"pgd": {"loss": "cooled"}}, local=local).settings["loss"] == {"cooled": {"temperature": 2.0}}
    with pytest.raises(PluginError, match="start: loss cooled is smallest at x itself"):
        load_plugins([{"pgd": {"loss": "cooled", "start": "none"}}], local=local)
    with pytest.raises(ConfigError, match=r"unknown attack loss 'coold'; did you mean 'cooled'\?"):
        load_plugins([{"pgd": {"loss": "coold"}}], local=local)
    with pytest.raises(PluginError, match="unknown plugin 'cooled'"):
        load_plugins(["cooled"], local=local)
    with pytest.raises(ConfigError, match="unknown attack loss 'cooled'"):  # it is gone with the file
        load_plugins([{"pgd": {"loss": "cooled"}}])


def test_attacks_of_evaluations_are_named_after_their_loss():
    assert attack_name(load_attack({"pgd": {"steps": 5, "loss": "margin"}})) == "pgd-5-margin"
    assert attack_name(load_attack({"fgsm": {"loss": "margin"}})) == "fgsm-margin"
    assert attack_name(load_attack({"ifgsm": {"loss": "ce"}})) == "ifgsm-10"
    own = {"pgd": {"steps": 5, "loss": {"own-losses:tempered": {"temperature": 3}}}}
    assert attack_name(load_attack(own)) == name_of_entry(own) == "pgd-5-tempered"
    assert attack_name(load_attack(attack_entry("mifgsm: {steps: 3, loss: tempered}"))) == "mifgsm-3-tempered"


@pytest.mark.parametrize(
    ("loss", "message"),
    [
        (
            "zz",
            r"expected an attack loss, got 'zz': unknown attack loss 'zz'; known: ce, .*\(see: buttress plugins list\)",
        ),
        ("margn", r"unknown attack loss 'margn'; did you mean 'margin'\?"),
        ("trades", r"unknown attack loss 'trades'; 'trades' is a component of another kind: plugin"),
        (3, r"expected an attack loss, by name or as 'name: \{settings\}', got 3"),
        ({"tempered": {"temp": 1}}, r"expected an attack loss, got .*: tempered\.temp: unknown key"),
        ({"tempered": {"temperature": "hot"}}, r"tempered\.temperature: .*got 'hot'"),
        ({"ce": {"scale": 1}}, r"ce\.scale: unknown key"),
        ({"ce": {}, "kl": {}}, r"expected a name or 'name: \{settings\}', got"),
        ("nothing", r"attack loss 'nothing' from own-losses 1\.0: expected a method input_loss\(model, batch, ctx\)"),
        ("few", r"attack loss 'few' .*expected a method input_loss\(model, batch, ctx\), got input_loss\(model\)"),
        ("misspelt", r"attack loss 'misspelt' .*refuses: unknown word 'soft label'; did you mean 'soft labels'\?"),
        ("gone", r"attack loss 'gone' from own-losses 1\.0 cannot be imported"),
    ],
    ids=str,
)
def test_a_wrong_loss_is_refused_with_its_place(loss: Any, message: str):
    for entries in ([{"pgd": {"loss": loss}}], [{"fgsm": {"loss": loss}}]):
        (name,) = entries[0]
        with pytest.raises(ButtressError, match=rf"^plugins\.0\.{name}\.loss: .*{message}"):
            load_plugins(entries)


def test_a_loss_that_gives_no_loss_per_example_is_named():
    engine = Engine(ConvNet(), lambda groups: torch.optim.SGD(groups, lr=0.1), [{"pgd": {"loss": "scalar"}}], LINF)
    batch = batch_of()
    with pytest.raises(HookError, match=r"attack loss 'scalar': expected losses \[6\], one for each example, got a "):
        engine.step(batch.x, batch.y)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({"pgd": {"loss": "kl", "start": "none"}}, "start: loss kl is smallest at x itself.*use gaussian or uniform"),
        ({"pgd": {"loss": "flat", "start": "none"}}, "start: loss flat is smallest at x itself"),
        ({"fat": {"loss": "kl", "start": "none"}}, "start: loss kl is smallest at x itself.*use gaussian or uniform"),
        (
            {"gairat": {"loss": "kl", "start": "none"}},
            "start: loss kl is smallest at x itself.*use gaussian or uniform",
        ),
        ({"fgsm": {"loss": "kl"}}, "start: loss kl is smallest at x itself.*use uniform"),
    ],
    ids=str,
)
def test_a_loss_without_a_gradient_at_x_needs_a_random_start(entry: dict[str, Any], message: str):
    with pytest.raises(PluginError, match=message):
        load_plugins([entry])


def test_an_attack_that_starts_at_x_refuses_a_loss_without_a_gradient_there():
    with pytest.raises(PluginError, match="ifgsm: loss: kl is smallest at x itself, where this attack starts"):
        load_attack({"ifgsm": {"loss": "kl"}})
    with pytest.raises(PluginError, match=r"mifgsm: start: loss kl is smallest at x itself.*use uniform"):
        load_attack({"mifgsm": {"loss": "kl"}})
    load_attack({"mifgsm": {"loss": "kl", "start": "uniform"}})


@pytest.mark.parametrize("loss", ["margin", "tempered"])
@pytest.mark.parametrize("attack", [{"pgd": {}}, {"fgsm": {}}], ids=str)
def test_an_attack_refuses_what_its_loss_refuses(attack: dict[str, Any], loss: str):
    ((name, settings),) = attack.items()
    with pytest.raises(PluginError, match=rf"'{name}' .*refuses soft labels, which plugin 'mixup' .*gives: it"):
        Engine(
            ConvNet(),
            lambda groups: torch.optim.SGD(groups, lr=0.1),
            [{name: {**settings, "loss": loss}}, {"mixup": {"num_classes": 3}}],
            LINF,
        )


def test_an_evaluation_has_no_objective():
    for name in ("pgd", "fgsm", "mifgsm"):
        with pytest.raises(
            PluginError,
            match=rf"^{name}\.loss: attack loss 'objective' is the training loss of a run, and an evaluation has none",
        ):
            load_attack({name: {"loss": "objective"}})


def test_a_config_that_evaluates_with_the_objective_is_refused_at_its_line(tmp_path: Path):
    from buttress.training.assembly import check_config

    path = tmp_path / "c.yaml"
    path.write_text(
        "name: c\ndata: {name: digits, train_per_class: 4, validation: 20}\nmodel: {name: mlp}\n"
        "threat: {norm: linf, eps: 1/10}\nplugins: [{pgd: {loss: objective, steps: 1}}, trades]\n"
        "optimizer: {lr: 0.1}\nepochs: 1\nevaluation:\n  attack: {pgd: {loss: objective}}\n"
    )
    with pytest.raises(PluginError, match=r"c\.yaml:9: evaluation\.attack\.pgd\.loss: attack loss 'objective' is the"):
        check_config(load_config(path))
    check_config(load_config(path, ["evaluation.attack=pgd-1"]))


def test_a_loss_may_be_used_by_itself():
    batch, model = batch_of(), ConvNet()
    loss = load_attack_loss("ce")(model, batch, None)  # type: ignore[arg-type]
    expected = nn.functional.cross_entropy(model(batch.x), batch.y, reduction="none")
    torch.testing.assert_close(loss(batch.x), expected)


@pytest.mark.parametrize("attack", [PGD, APGD])
def test_an_attack_with_targets_refuses_soft_labels(attack: type):
    stack = [LabelSmoothing(num_classes=3), attack(targets="next", num_classes=3)]
    with pytest.raises(PluginError, match="leads from the label to another class, and a soft label is of several"):
        engine_of(ConvNet(), *stack)
    engine_of(ConvNet(), stack[0], attack())
