"""Wrong input: exit code 2, one clear error, no run folder. One table."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from .conftest import Run


def edit(old: str, new: str) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        config = folder / "small.yaml"
        text = config.read_text()
        assert old in text, f"{old!r} is not in the config"
        config.write_text(text.replace(old, new, 1))

    return change


def array(name: str, change: Callable[[np.ndarray], None]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        with np.load(folder / "small.npz") as file:
            arrays = {key: file[key].copy() for key in file.files}
        change(arrays[name])
        np.savez(folder / "small.npz", **arrays)

    return apply


def plugin(name: str, source: str) -> Callable[[Path], None]:
    """An installed distribution ``acme-<name>`` with one plugin, first in the config."""

    def install(folder: Path) -> None:
        (folder / f"acme_{name}.py").write_text(source)
        info = folder / f"acme_{name}-1.2.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: acme-{name}\nVersion: 1.2\n")
        (info / "entry_points.txt").write_text(f"[buttress.plugins]\n{name} = acme_{name}:Plugin\n")
        edit("plugins:\n", f"plugins:\n- {name}\n")(folder)

    return install


def network(name: str, made: str) -> Callable[[Path], None]:
    """A module ``name`` with a function ``net`` that makes a network."""

    def write(folder: Path) -> None:
        (folder / f"{name}.py").write_text(f"from torch import nn\n\ndef net() -> nn.Module:\n    return {made}\n")

    return write


def truncated_weights(folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    from buttress_plugins.models.preact_resnet import preact_tiny

    save_file(preact_tiny(in_channels=1, num_classes=9, width=2).state_dict(), folder / "head.safetensors")
    weights = preact_tiny(in_channels=1, num_classes=4, width=2).state_dict()
    save_file(weights, folder / "w.safetensors")
    raw = (folder / "w.safetensors").read_bytes()
    (folder / "w.safetensors").write_bytes(raw[: len(raw) // 2])
    save_file({"other": torch.zeros(3)}, folder / "other.safetensors")
    torch.save({"model": folder}, folder / "code.pth")


HOOK = "from buttress import hookimpl\nclass Plugin:\n    @hookimpl\n    def {0}: return None\n"


def set_nan(x: np.ndarray) -> None:
    x[7, 0, 0, 0] = np.nan


def set_large(x: np.ndarray) -> None:
    x[5] *= 255


def set_label(y: np.ndarray) -> None:
    y[2] = 9


def set_negative(y: np.ndarray) -> None:
    y[4] = -1


BAD = {
    "unknown plugin": (edit("- swa", "- swaa"), [], ["small.yaml:22: plugins.swaa", "did you mean 'swa'?"]),
    "two attacks": (edit("- swa", "- fgsm"), [], ["small.yaml:12: plugins: generate_adv takes one provider", "'pgd'", "'fgsm'"]),
    "no attack": (edit("- pgd:\n    steps: 2\n", ""), [], ["no plugin provides generate_adv", "clean"]),
    "import fails": (
        plugin("broken", "import not_there\n"), [],
        ["'broken' from acme-broken 1.2", "acme_broken:Plugin", "No module named 'not_there'", "uninstall"],
    ),
    "exits at import": (plugin("rude", "raise SystemExit(0)\n"), [], ["'rude' from acme-rude 1.2", "SystemExit"]),
    "mistyped hook": (
        plugin("typo", HOOK.format("generate_advs(self, batch)")), [], ["'generate_advs' is not a hook", "generate_adv"],
    ),
    "wrong argument of a hook": (
        plugin("args", HOOK.format("compute_loss(self, modle)")), [], ["'args' from acme-args 1.2, hook compute_loss: unknown argument 'modle'; did you mean 'model'?"],
    ),
    "hook specification 2": (
        plugin("new", "from buttress import hookimpl\nclass Plugin:\n    hookspec = '2.0'\n"), [],
        ["hook specification 2.0", "acme-new"],
    ),
    "eps 8/0": (None, ["threat.eps=8/0"], ["threat.eps", "finite fraction like 8/255", "8/0"]),
    "eps of 8 pixels of 255": (None, ["threat.eps=8"], ["override 'threat.eps=8': threat.eps: 8 reaches beyond", "did you mean 8/255?"]),
    "negative eps": (None, ["threat.eps=-1/255"], ["threat.eps", ">= 0"]),
    "inputs outside the box": (array("x_train", set_large), [], ["split train", "example 5", "outside of the box", "scale"]),
    "NaN in the data": (array("x_test", set_nan), [], ["split test", "NaN or infinity in example 7"]),
    "label out of range": (array("y_test", set_label), [], ["split test", "label out of range at example 2", "got 9"]),
    "negative label": (array("y_train", set_negative), [], ["small.npz: y_train", "example 4", "got -1"]),
    "data file missing": (None, ["data.path=nowhere.npz"], ["nowhere.npz does not exist"]),
    "truncated weights": (truncated_weights, ["model.weights=w.safetensors"], ["w.safetensors", "truncated"]),
    "weights of another model": (truncated_weights, ["model.weights=other.safetensors"], ["another model", "unexpected other"]),
    "weights of another head": (truncated_weights, ["model.weights=head.safetensors"], ["model.weights: head.safetensors fits but for the head: linear.weight", "except: [linear]}"]),
    "an exception that names nothing": (truncated_weights, ["model.weights={file: head.safetensors, except: [liner]}"], ["except: 'liner' names nothing", "did you mean 'linear'"]),
    "a key that the file lacks": (truncated_weights, ["model.weights={file: head.safetensors, key: ema}"], ["no weights under the key 'ema'"]),
    "weights with code": (truncated_weights, ["model.weights=code.pth"], ["model.weights: code.pth is refused", "restricted loader", "pathlib"]),
    "weights missing": (None, ["model.weights=gone.safetensors"], ["model.weights: gone.safetensors does not exist"]),
    "duplicate key": (edit("epochs: 4", "epochs: 4\nepochs: 5"), [], ["epochs: key given twice"]),
    "YAML tag": (edit("epochs: 4", "epochs: !!python/name:os.system 4"), [], ["YAML tag", "python/name:os.system", "refused"]),
    "not YAML": (edit("epochs: 4", "epochs: [4"), [], ["not valid YAML"]),
    "unknown key": (None, ["evaluation.evrey=2"], ["evaluation.evrey: unknown key; did you mean 'every'?"]),
    "unknown top-level key": (edit("epochs: 4", "epoch: 4"), [], ["epoch: unknown key; did you mean 'epochs'?"]),
    "unknown setting": (None, ["pgd.step=3"], ["plugins.pgd.step: unknown key", "steps"]),
    "unknown data setting": (None, ["data.paht=x"], ["data.paht: unknown key; did you mean 'path'?"]),
    "wrong type": (None, ["pgd.steps=many"], ["plugins.pgd.steps: expected a valid integer, got 'many'"]),
    "a schedule of another shape": (None, ["pgd.steps={line: [[0, 2]]}"], ["plugins.pgd.steps: expected a shape, got 'line'; did you mean 'linear'?"]),
    "a schedule with a wrong value": (None, ["pgd.steps={linear: [[0, 1], [1, 0]]}"], ["plugins.pgd.steps: linear, point 2: expected greater than or equal to 1, got 0"]),
    "a schedule that goes on after the end": (
        None, ["epochs=2", "pgd.steps={linear: [[0, 1], [2, 5]]}"],
        ["override 'pgd.steps={linear: [[0, 1], [2, 5]]}': plugins.pgd.steps: linear, point 2: expected an epoch of the run, 0 to 1, got 2"],
    ),
    "an evaluation under a schedule": (
        None, ["evaluation.attack={pgd: {steps: {linear: [[0, 1], [1, 5]]}}}"],
        ["evaluation.attack.pgd.steps: expected one value, as evaluations have no epochs", "got {linear: [[0, 1], [1, 5]]}"],
    ),
    "out of bounds": (None, ["pgd.steps=0"], ["plugins.pgd.steps: expected greater than or equal to 1, got 0"]),
    "fraction 1.0": (None, ["meat.start=1.0"], ["plugins.meat.start", "in (0, 1)", "got 1.0"]),
    "NaN setting": (None, ["ema.tau=.nan"], ["plugins.ema.tau", "finite"]),
    "unknown model": (None, ["model.name=preact_tiy"], ["override 'model.name=preact_tiy': model.name: unknown model 'preact_tiy'; did you mean 'preact_tiny'?"]),
    "target that is not there": (None, ['model={target: "nothing:Net"}'], ["model.target", "No module named 'nothing'"]),
    "target of another shape": (
        None, ['model={target: "torch.nn:Linear", args: {in_features: 8, out_features: 3}}'],
        ["model.target: model Linear: expected floating-point logits [B,K] with B = 2, got a tensor (2, 1, 8, 3)"],
    ),
    "unknown optimizer": (None, ["optimizer.name=sdg"], ["unknown optimizer 'sdg'; did you mean 'sgd'?"]),
    "an optimizer that cannot step here": (
        None, ["optimizer={name: adam, lr: 0.1, capturable: true}"], ["optimizer: Adam: ", "capturable"],
    ),
    "unknown optimizer setting": (None, ["optimizer.momentun=0.9"], ["momentun: unknown key; did you mean 'momentum'?"]),
    "wrong optimizer value": (None, ["optimizer.momentum=-1"], ["optimizer", "Invalid momentum"]),
    "a word that is no truth value": (None, ["optimizer.maximize=nope"], ["optimizer.maximize: expected true or false, got 'nope'"]),
    "a quoted word for a truth value": (None, ["optimizer.maximize='no'"], ["optimizer.maximize: expected true or false, got 'no'"]),
    "a quoted word for a key of the config": (None, ["deterministic='no'"], ["deterministic: expected true or false, got 'no'"]),
    "a pair of one number": (None, ["optimizer={name: adam, lr: 0.1, betas: [0.9]}"], ["optimizer.betas: expected more values, got [0.9]"]),
    "a word where no type says what it means": (
        None, ["model={name: timm, arch: resnet18, options: {pretrained: no}}"],
        ["model.options.pretrained: expected true, false or null, or quotes around a text ('no'), got no"],
    ),
    "an evaluation attack for more classes": (
        lambda folder: np.savez(
            folder / "small.npz", x_train=np.zeros((8, 1, 8, 8)), y_train=np.arange(8) % 2, x_test=np.zeros((4, 1, 8, 8)),
            y_test=np.arange(4) % 2, x_val=np.zeros((4, 1, 8, 8)), y_val=np.arange(4) % 2,
        ), ["evaluation.attack=autoattack"],
        ["evaluation.attack", "at least 4 classes, got 2", "'autoattack: {version: without-apgd-t}'"],
    ),
    "steps of an attack that has none": (None, ["evaluation.attack=fgsm-20"], ["evaluation.attack.fgsm.steps: unknown key"]),
    "unknown schedule": (None, ["schedule.name=step"], ["schedule.name: unknown schedule 'step'"]),
    "milestones not increasing": (None, ["schedule.milestones=[3,1]"], ["schedule.milestones", "increasing"]),
    "no validation": (
        lambda folder: np.savez(
            folder / "small.npz", x_train=np.zeros((8, 1, 8, 8)), y_train=np.arange(8) % 4, x_test=np.zeros((4, 1, 8, 8)),
            y_test=np.arange(4),
        ), [], ["evaluation.best_by", "no validation split", "best_by: test"],
    ),
    "memory history over its budget": (
        None, ["meat.history=memory", "meat.memory_gib=1.0e-6"], ["meat", "over memory_gib", "history: disk"],
    ),
    "no such device": (None, ["device=cuda:77"], ["device", "cuda:77 asked for"]),
    "run name that is a path": (None, ["--run", "../a"], ["run name '../a'"]),
    "name that is a path": (None, ["name=../a"], ["name", "should match pattern"]),
    "gamma < 0": (edit("- swa", "- awp: {gamma: -0.1}"), [], ["plugins.awp.gamma", "greater than or equal to 0", "-0.1"]),
    "k2 of 0": (edit("- swa", "- rwp: {k2: 0}"), [], ["plugins.rwp.k2", "greater than or equal to 1", "got 0"]),
    "c_min NaN": (edit("- swa", "- rwp: {c_min: .nan}"), [], ["plugins.rwp.c_min", "greater than or equal to 0", "nan"]),
    "a layer group that names nothing": (
        edit("- swa", "- rat_wp: {layers: [1], groups: {1: [nothing.*], 2: [conv1.*]}}"), [],
        ["groups: group 1 (nothing.*) names no parameter"],
    ),
    "layer groups that overlap": (
        edit("- swa", "- rat_lr: {layers: [1], groups: {1: [conv1.*], 2: ['*']}}"), [],
        ["groups: parameter 'conv1.weight' is in groups 1 and 2"],
    ),
    "MART with soft labels": (
        edit("- swa", "- mixup\n- mart"), [], ["'mart'", "refuses soft labels", "'mixup'", "remove one of them"],
    ),
    "a weight perturbation with Mixup": (edit("- swa", "- mixup\n- rwp"), [], ["'rwp'", "refuses mixed inputs", "'mixup'"]),
    "two weight perturbations": (edit("- swa", "- awp\n- rwp"), [], ["perturb_weights takes one provider", "'awp'", "'rwp'"]),
    "two losses": (edit("- swa", "- trades\n- mart"), [], ["compute_loss takes one provider", "'trades'", "'mart'"]),
    "PIAT's coefficients": (edit("- swa", "- piat: {b: 3.0, c: 2.0}"), [], ["plugins.piat: expected b <= c"]),
    "LSC range": (edit("- swa", "- awp: {lsc: [2.0, 1.0]}"), [], ["plugins.awp: lsc: expected [p, q] with p <= q"]),
    "everything frozen": (edit("- swa", "- freeze_layers: {layers: [1, 2, 3, 4]}"), [], ["whole network", "nothing would"]),
    "a track that is a path": (None, ["meat.track=../../x"], ["'meat'", "track name '../../x': expected letters, digits"]),
    "two tracks of one name": (None, ["ema.track=meat"], ["'ema'", "the track name 'meat' is taken", "setting 'track'"]),
    "a track called live": (None, ["meat.track=live"], ["the track name 'live' is taken"]),
    "seed beyond 63 bits": (None, ["seed=18446744073709551616"], ["seed: expected less than 9223372036854775808"]),
    "a device that nothing runs on": (None, ["device=mps"], ["device: expected auto, cpu, cuda or cuda:N, got 'mps'"]),
    "an optimizer for sparse gradients": (None, ["optimizer={name: sparseadam, lr: 0.1}"], ["optimizer", "SparseAdam", "dense"]),
    "an optimizer that cannot step": (None, ["optimizer={name: sgd, lr: 0.1, differentiable: true}"], ["optimizer", "SGD"]),
    "an override within a list": (None, ["schedule.milestones.0=3"], ["'milestones' is a list: override it as a whole"]),
    "an L2 radius beyond floats": (None, ["threat={norm: l2, eps: '1e999999'}"], ["threat.eps", "that a float can hold"]),
    "half precision of a small range": (None, ["precision=float16"], ["override 'precision=float16': precision: float16 is not offered", "use bf16"]),
    "a precision that the device lacks": (None, ["precision={attack: tf32}", "device=cpu"], ["override 'precision={attack: tf32}': precision: model", "on cpu"]),
    "channels_last of what are no images": (
        lambda folder: np.savez(
            folder / "small.npz", x_train=np.zeros((8, 5)), y_train=np.arange(8) % 4, x_test=np.zeros((4, 5)),
            y_test=np.arange(4), x_val=np.zeros((4, 5)), y_val=np.arange(4),
        ), ["model={name: mlp, memory_format: channels_last}"], ["channels_last is a layout of images [C,H,W]", "[5]"],
    ),
    "a last batch of one example": (
        network("normed", "nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))"),
        ['model={target: "normed:net"}', "data.batch_size=13"], ["data.batch_size: 13 of 40 training examples leave a batch of one example", "data.drop_last: true"],
    ),
    "a batch of one example": (
        network("ones", "nn.Sequential(nn.Flatten(), nn.Linear(64, 4), nn.BatchNorm1d(4))"),
        ['model={target: "ones:net"}', "data.batch_size=1"], ["data.batch_size: 1 of 40", "choose another batch size"],
    ),
    "a model of one logit": (
        network("single", "nn.Sequential(nn.Flatten(), nn.Linear(64, 1))"),
        ['model={target: "single:net"}'], ["model.target: model Sequential: expected logits", "one number for each example"],
    ),
    "a model that returns a tuple": (
        network("recurrent", "nn.Sequential(nn.Flatten(), nn.RNN(64, 4))"),
        ['model={target: "recurrent:net"}'], ["model.target: model Sequential: expected its forward to return logits [B,K], got a tuple of 2", "net(x)[0]"],
    ),
    "override without value": (None, ["epochs"], ["expected key=value"]),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_clear_error_and_leaves_nothing(
    case: str, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from buttress.cli import main
    from buttress.components import sources as installed_sources

    change, words, expected = BAD[case]
    if change is not None:
        change(workspace)
    monkeypatch.syspath_prepend(workspace)
    installed_sources._listed.cache_clear()
    try:
        code = main(["train", "small.yaml", *words])
    finally:
        installed_sources._listed.cache_clear()
    message_text = capsys.readouterr().err
    assert code == 2, message_text
    for text in expected:
        assert text in message_text
    assert "Traceback" not in message_text
    assert not (workspace / "runs").exists()


def test_a_run_folder_that_exists_is_never_overwritten(buttress: Run, workspace: Path):
    folder = workspace / "runs" / "small" / "a"
    folder.mkdir(parents=True)
    done = buttress("train", "small.yaml", "--run", "a")
    assert done.returncode == 2
    assert "runs/small/a exists and is never overwritten" in done.stderr
    assert "buttress resume" in done.stderr
    assert not list(folder.iterdir())


def test_native_kernels_that_are_not_there_are_refused(
    workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    from buttress.cli import main
    from buttress.kernels import native

    monkeypatch.setattr(native, "operations", dict)
    assert main(["train", "small.yaml", "backend=native"]) == 2
    message_text = capsys.readouterr().err
    assert "backend native" in message_text
    assert "use backend auto or torch" in message_text
    assert not (workspace / "runs").exists()


def test_a_setting_with_dashes_is_told_how_settings_are_given(buttress: Run):
    done = buttress("train", "small.yaml", "--epochs", "4")
    assert done.returncode == 2
    assert "no such option --epochs; a setting is given without dashes: epochs=..." in done.stderr


def test_missing_config_is_named(buttress: Run):
    done = buttress("train", "nowhere.yaml")
    assert done.returncode == 2
    assert done.stderr.removeprefix("buttress: importing torch ...\n") == (
        "error: nowhere.yaml: cannot be read: no such file; see for those that come along: buttress recipes list\n"
    )


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["evaluate", "nowhere"], "no run folder: it does not exist"),
        (["resume", "nowhere"], "no run folder"),
        (["plugins", "show", "pdg"], "unknown plugin 'pdg'; did you mean 'pgd'?"),
        (["evaluate", "runs/small/a", "--track", "maet"], "no track 'maet'; did you mean 'meat'?"),
        (["evaluate", "runs/small/a", "--attack", "pdg-3"], "unknown attack 'pdg'; did you mean 'pgd'?"),
        (["evaluate", "runs/small/a", "--attack", "pgd: {step: 3}"], "pgd.step: unknown key"),
    ],
)
def test_other_verbs_refuse_bad_input(buttress: Run, words: list[str], expected: str):
    if "runs/small/a" in words:
        assert buttress("train", "small.yaml", "--run", "a", "epochs=1").returncode == 0
    done = buttress(*words)
    assert done.returncode == 2
    assert expected in done.stderr
    assert "Traceback" not in done.stderr


def test_truncated_weights_and_those_of_another_model_are_refused_by_evaluate(buttress: Run, workspace: Path):
    assert buttress("train", "small.yaml", "--run", "a", "epochs=1").returncode == 0
    done = buttress("evaluate", "runs/small/a", "model.width=3")
    assert done.returncode == 2
    assert "weights of another model" in done.stderr
    config = workspace / "runs" / "small" / "a" / "config.yaml"
    text = config.read_text()
    config.write_text(text.replace("width: 2", "width: 3"))
    resumed = buttress("resume", "runs/small/a")
    assert resumed.returncode == 2
    assert "config.yaml:5: damaged or edited" in resumed.stderr
    config.write_text(text)
    weights = workspace / "runs" / "small" / "a" / "weights" / "best-live.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    done = buttress("evaluate", "runs/small/a")
    assert done.returncode == 2
    assert "best-live.safetensors cannot be read" in done.stderr


@pytest.mark.parametrize("place", ["weights", "checkpoints", "history/meat"])
def test_a_folder_that_cannot_be_made_is_named_with_the_cure(
    place: str, workspace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    import errno
    import os

    from buttress.cli import main

    mkdir = Path.mkdir

    def full(self: Path, *rest: object, **options: object) -> None:
        if str(self).endswith(place):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        mkdir(self, *rest, **options)  # type: ignore[arg-type]

    monkeypatch.setattr(Path, "mkdir", full)
    assert main(["train", "small.yaml", "--run", "a", "meat.start=0", "checkpoint.every=4"]) == 1
    message_text = capsys.readouterr().err
    assert f"cannot write runs/small/a/{place}: No space left on device" in message_text
    assert "free some space" in message_text
    assert "plugin" not in message_text


def test_a_full_disk_fails_with_the_last_checkpoint_intact(buttress: Run, workspace: Path):
    """The limit on file sizes stands in for the disk: the operating system refuses the write itself."""
    import subprocess
    import sys

    code = (
        "import resource, signal, sys\n"
        "from buttress.training import trainer\n"
        "from buttress.cli import main\n"
        "save = trainer.Trainer._save\n"
        "def fill(self):\n"
        "    if self._engine.epoch == 3: resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "    save(self)\n"
        "trainer.Trainer._save = fill\n"
        "sys.exit(main(['train', 'small.yaml', '--run', 'a']))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=workspace, capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert "cannot write runs/small/a/checkpoints/step-00000012.safetensors: File too large" in done.stderr
    assert "free some space" in done.stderr
    assert "buttress resume" in done.stderr
    checkpoints = workspace / "runs" / "small" / "a" / "checkpoints"
    assert sorted(path.name for path in checkpoints.glob("*.*s*") if path.is_file()) == [
        f"step-{step:08d}.{kind}" for step in (4, 8) for kind in ("json", "safetensors")
    ]
    resumed = buttress("resume", "runs/small/a")
    assert resumed.returncode == 0, resumed.stderr
    assert "resumed step-00000008" in resumed.stdout
