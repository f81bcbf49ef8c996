"""The verbs that list and describe: from metadata alone, and as JSON."""

import json
import subprocess
import sys

import pytest

from buttress.cli import main

from .conftest import Run


def test_plugins_list_names_every_built_in_with_its_distribution(buttress: Run):
    done = buttress("plugins", "list", "--json")
    assert done.returncode == 0, done.stderr
    rows = {(row["kind"], row["name"]): row for row in json.loads(done.stdout)}
    for key in (
        ("plugin", "meat"),
        ("plugin", "pgd"),
        ("attack", "pgd"),
        ("model", "preact_tiny"),
        ("dataset", "digits"),
        ("logger", "tensorboard"),
    ):
        assert rows[key]["distribution"] == "buttress"
        assert rows[key]["status"] == "listed"
    assert rows["plugin", "gairat"]["hooks"] == "generate_adv, compute_loss"
    assert rows["logger", "tensorboard"]["hooks"] == "start_run, log, end_run"
    assert rows["model", "preact_tiny"]["hooks"] == ""


def test_plugins_list_groups_plugins_by_hook_in_80_columns(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "list"]) == 0
    groups = [group.splitlines() for group in capsys.readouterr().out.rstrip().split("\n\n")]
    assert max(len(line) for group in groups for line in group) <= 80
    assert [heading for heading, *_ in groups][:8] == [
        "parameter groups: param_groups",
        "batches: transform_batch",
        "attacks: generate_adv",
        "weight perturbations: perturb_weights",
        "losses: compute_loss",
        "gradients: adjust_grads",
        "ensembles: ensemble_weights",
        "attacks of evaluations",
    ]
    assert [line.split()[0] for line in groups[3][1:]] == ["amp", "awp", "rat_wp", "rwp"]
    assert main(["plugins", "list", "--hook", "compute_loss", "--kind", "plugin", "--json"]) == 0
    names = {row["name"] for row in json.loads(capsys.readouterr().out)}
    assert {"trades", "gairat", "consistency"} <= names
    assert "pgd" not in names


def loaded_by(statement: str) -> set[str]:
    quiet = "with contextlib.redirect_stdout(io.StringIO()):"
    code = f"import sys, io, contextlib\n{quiet}\n    {statement}\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    return set(done.stdout.split())


def test_plugins_list_loads_neither_torch_nor_a_plugin():
    modules = loaded_by("from buttress.cli import main; main(['plugins', 'list'])")
    assert "buttress.authoring.inventory" in modules
    assert "torch" not in modules
    assert not [name for name in modules if name.startswith("buttress_plugins")]


def test_the_check_of_loaded_modules_can_fail():
    modules = loaded_by("from buttress.cli import main; main(['plugins', 'show', 'swa'])")
    assert "torch" in modules
    assert "buttress_plugins.ensembles.swa" in modules


def test_plugins_list_check_imports_each(buttress: Run):
    done = buttress("plugins", "list", "--kind", "attack", "--check", "--json")
    names = ["apgd", "autoattack", "clean", "cw", "fgsm", "ifgsm", "mifgsm", "pgd", "spsa"]
    assert {row["name"]: row["status"] for row in json.loads(done.stdout)} == dict.fromkeys(names, "ok")


def test_a_check_does_not_hide_that_a_name_is_shadowed(monkeypatch: pytest.MonkeyPatch):
    from buttress.authoring import inventory as module
    from buttress.components.sources import Source

    listed = [
        Source("attack", "pgd", "a:A", dist, "1", status) for dist, status in (("x", "shadowed"), ("y", "listed"))
    ]
    monkeypatch.setattr(module, "sources", lambda kind: listed)
    monkeypatch.setattr(module, "_checked", lambda installed: {source: {"status": "ok"} for source in installed})
    assert [row["status"] for row in module.inventory("attack", check=True)] == ["shadowed, ok", "ok"]


def test_plugins_show_documents_settings_hooks_and_source(buttress: Run):
    done = buttress("plugins", "show", "meat")
    assert done.returncode == 0, done.stderr
    for text in (
        "meat (buttress",
        "arXiv:2406.14259",
        "ensemble_weights (joins)",
        "memory_gib",
        "lower | upper | mean",
        "0.5",
    ):
        assert text in done.stdout
    facts = json.loads(buttress("plugins", "show", "pgd", "--json").stdout)
    assert facts["hooks"] == ["generate_adv (provides)"]
    assert all(setting["meaning"] for setting in facts["settings"])
    model = json.loads(buttress("plugins", "show", "preact_tiny", "--kind", "model", "--json").stdout)
    assert [setting["name"] for setting in model["settings"]] == ["width"]


def test_a_name_of_another_kind_is_shown_as_that_and_refused_with_a_hint(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "show", "cifar10", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["kind"] == "dataset"
    assert main(["plugins", "show", "pgd"]) == 0
    both = capsys.readouterr().out.splitlines()
    assert both[0].startswith("plugin pgd (buttress ")
    assert both[1] == "another component of that name: --kind attack"
    assert 'paper: Madry et al., "Towards Deep Learning Models' in "\n".join(both)
    for words, message in (
        (["show", "cw", "--kind", "plugin"], "unknown plugin 'cw'; 'cw' is a component of another kind: attack"),
        (["show", "cifr10"], "unknown plugin 'cifr10'; did you mean 'cifar10'?"),
    ):
        assert main(["plugins", *words]) == 2
        assert message in capsys.readouterr().err


def test_config_show_fills_in_every_default(buttress: Run):
    resolved = json.loads(buttress("config", "show", "small.yaml", "--json").stdout)
    assert resolved["plugins"][3] == {"swa": {"start": 0.5, "track": "swa"}}
    assert resolved["evaluation"]["best_by"] == "validation"
    assert resolved["schedule"] == {"name": "piecewise", "milestones": [0.5], "factor": 0.1, "per": "epoch"}
    assert "eps: 8/255" in buttress("config", "show", "small.yaml").stdout


def test_config_validate_and_schema(buttress: Run):
    assert buttress("config", "validate", "small.yaml").stdout == "small.yaml: valid\n"
    schema = json.loads(buttress("config", "schema").stdout)
    assert {"data", "model", "threat", "plugins", "optimizer"} <= set(schema["required"]) | {"name"}


def test_an_instruction_set_that_is_none_is_refused(apart: Run):
    from buttress.kernels import native

    if not native.operations():
        pytest.skip(native.why_not())
    done = apart("doctor", BUTTRESS_SIMD="bad")
    assert done.returncode == 2
    assert "BUTTRESS_SIMD: expected one of" in done.stderr
    assert "Traceback" not in done.stderr


def test_doctor_tells_what_was_compiled_and_what_to_do(buttress: Run, apart: Run):
    facts = json.loads(apart("doctor", "--json", BUTTRESS_BACKEND="auto").stdout)
    assert facts["kernels"]["backend"] == "auto"
    if facts["kernels"]["extension"] == "loaded":
        assert facts["kernels"]["built against torch"]
    else:
        assert any("--no-build-isolation" in advice for advice in facts["advice"])
    assert "advice" in buttress("doctor").stdout


@pytest.mark.parametrize("words", [[], ["trian"], ["train"], ["train", "c.yaml", "--nope"], ["resume", "r", "x=1"]])
def test_wrong_words_exit_2_with_usage(buttress: Run, words: list[str]):
    done = buttress(*words)
    assert done.returncode == 2
    assert "usage: buttress" in done.stderr
