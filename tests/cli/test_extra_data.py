"""Runs with ``data.extra``: refusals, exact resume in the middle of an epoch, and identity of the data."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from buttress.cli import main
from buttress.storage.seals import read_sealed

from .conftest import Verb, stopped_at
from .test_resume import fingerprint

RST = [{"pgd": {"steps": 1, "loss": "kl", "start": "gaussian"}}, {"rst": {}}]

OWN = '''
"""Extra examples of my own."""

import torch

from buttress import Data, Split


def more(*, n: int = 8) -> Data:
    """Some.

    Args:
        n: number.
    """
    split = Split(torch.rand(n, 1, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(n) % 4)
    return Data(train=split, test=split, num_classes=4)
'''


@pytest.fixture
def more(workspace: Path) -> Path:
    """``more.npz``, 30 images, 10 of them without a label, and ``small.yaml`` with half of each batch from it."""
    rng = np.random.default_rng(7)
    labels = np.where(np.arange(30) < 20, np.arange(30) % 4, -1)
    np.savez("more.npz", image=rng.integers(0, 256, (30, 8, 8, 1), dtype=np.uint8), label=labels)
    config: dict[str, Any] = yaml.safe_load(Path("small.yaml").read_text())
    config["data"]["extra"] = {"name": "npz", "path": "more.npz", "share": "1/2"}
    config |= {"plugins": RST, "epochs": 2}
    Path("small.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    return workspace / "more.npz"


def test_a_stopped_run_goes_on_in_the_middle_of_an_epoch_as_if_it_had_never_stopped(more: Path, expect: Verb):
    expect("train", "small.yaml", "--run", "whole")
    for step in (1, 6):
        with stopped_at(step):
            expect("train", "small.yaml", "--run", f"at-{step}", code=1)
        expect("resume", f"runs/small/at-{step}")
        assert fingerprint(Path(f"runs/small/at-{step}")) == fingerprint(Path("runs/small/whole"))
    said = expect("reproduce", "runs/small/whole", "--run", "again")
    assert "are equal, to the last bit" in said


def test_the_run_records_the_extra_examples_and_refuses_others(more: Path, expect: Verb):
    with stopped_at(5):
        expect("train", "small.yaml", "--run", "a", "evaluation.every=1", code=1)
    data = read_sealed(Path("runs/small/a/manifest.json"))["data"]
    assert data["splits"] == {"train": 40, "validation": 20, "test": 20, "extra": 30}
    resolved = yaml.safe_load(Path("runs/small/a/config.yaml").read_text())["data"]["extra"]
    assert resolved == {
        "name": "npz", "share": "1/2", "replacement": True, "path": "more.npz", "num_classes": None,
        "validation": 0, "layout": None, "split_seed": None,
    }  # fmt: skip
    with np.load(more) as file:
        np.savez(more, image=file["image"], label=(file["label"] + 2) % 4)
    for verb in ("resume", "reproduce", "evaluate"):
        assert "extra has other labels" in expect(verb, "runs/small/a", code=2)


def test_a_path_of_extra_examples_lies_beside_the_config(more: Path, expect: Verb, monkeypatch: pytest.MonkeyPatch):
    elsewhere = more.parent / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    expect("train", "../small.yaml", "--run", "a", "epochs=1")
    expect("resume", "runs/small/a")
    more.unlink()
    said = expect("train", "../small.yaml", "--dry-run", code=2)
    assert "data.extra.path: expected a file, got nothing: " in said
    assert f"looked up in {more.parent} and in {elsewhere}" in said.replace("\n  ", " ")


def test_a_target_of_my_own_serves_as_extra_examples(more: Path, expect: Verb):
    Path("mine.py").write_text(OWN)
    expect(
        "train", "small.yaml", "--run", "a", "epochs=1", 'data.extra={target: "mine:more", args: {n: 9}, share: 1/3}'
    )
    resolved = yaml.safe_load(Path("runs/small/a/config.yaml").read_text())["data"]["extra"]
    assert resolved == {"target": "mine:more", "args": {"n": 9}, "share": "1/3", "replacement": True}
    manifest = read_sealed(Path("runs/small/a/manifest.json"))
    assert manifest["modules"]["data.extra"]["file"].endswith("mine.py")
    expect("resume", "runs/small/a")


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data.extra.share=1"], "data.extra.share: expected a share in (0, 1), got 1"),
        (["data.extra={name: npz, path: more.npz}"], "data.extra.share: required, and not given"),
        (["data.extra.share=1/100"], "data.extra.share: expected 1 to 11 extra examples in a batch of 12, got 0"),
        (["data.extra.paht=x"], "data.extra.paht: unknown key; did you mean 'path'?"),
        (["data.extra.name=nzp"], "data.extra.name: unknown dataset 'nzp'; did you mean 'npz'"),
        (["data.extra.target=a:b"], "data.extra.target: expected exactly one of name and target"),
        (["data.extra={share: 1/2}"], "data.extra: npz sets no extra examples apart; name a file of them, like"),
        (["data.extra={share: 1/2, path: x}"], "data.extra.path: expected a name or a target that this belongs to"),
        (["data.extra=null"], "plugin 'rst' (buttress 0.1.0) needs extra examples: it learns from more examples"),
        (
            ["plugins=[{pgd: {loss: kl}}, trades]"],
            "data.extra: it holds examples without a label, which plugin 'trades'",
        ),
        (["plugins=[pgd, rst]"], "data.extra: it holds examples without a label, which plugin 'pgd'"),
        (["plugins=[{pgd: {loss: kl}}, rst, mixup]"], "it holds examples without a label, which plugin 'mixup'"),
        (["data.extra.layout=nchw"], "data, split extra: expected inputs of shape (1, 8, 8), got (8, 8, 1)"),
        (["data.extra.path=small.npz", "disable=[npz]"], "'npz' means dataset 'npz' of data.name, which a run cannot"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_wrong_extra_examples_are_refused_before_anything_is_written(
    more: Path, expect: Verb, overrides: list[str], message: str
):
    assert message in expect("train", "small.yaml", "--run", "a", *overrides, code=2).replace("\n  ", " ")
    assert not Path("runs").exists()


@pytest.mark.parametrize("label", [4, -2])
def test_a_pseudo_label_out_of_range_is_refused(more: Path, expect: Verb, label: int):
    with np.load(more) as file:
        np.savez(more, image=file["image"], label=np.where(np.arange(30) == 21, label, file["label"]))
    said = expect("train", "small.yaml", "--run", "a", code=2).replace("\n  ", " ")
    assert f"data, split extra: label out of range at example 21: expected -1 to 3, got {label}; renumber" in said
    assert not Path("runs").exists()


def test_labelled_extra_examples_suit_every_loss(more: Path):
    with np.load(more) as file:
        np.savez(more, image=file["image"][:20], label=file["label"][:20])
    assert main(["train", "small.yaml", "--dry-run", "plugins=[pgd, mart]"]) == 0


def test_a_file_of_images_and_labels_is_no_whole_data_set(more: Path, expect: Verb):
    said = expect("train", "small.yaml", "--dry-run", "data={name: npz, path: more.npz}", "plugins=[pgd]", code=2)
    assert "label out of range" in said
    with np.load(more) as file:
        np.savez(more, image=file["image"][:20], label=file["label"][:20])
    said = expect("train", "small.yaml", "--dry-run", "data={name: npz, path: more.npz}", "plugins=[pgd]", code=2)
    assert (
        "split test: expected at least one example, got none; examples without a test split can serve as data.extra"
        in (said.replace("\n  ", " "))
    )


def lists(*sources: dict[str, Any]) -> str:
    return f"data.extra={yaml.safe_dump(list(sources), default_flow_style=True).strip()}"


THIRD = {"name": "npz", "path": "more.npz", "share": "1/3"}
TARGET = {"target": "mine:more", "args": {"n": 9}, "share": "1/4", "replacement": False}


def test_several_sources_are_recorded_and_continued_exactly(more: Path, expect: Verb):
    Path("mine.py").write_text(OWN)
    words = ["train", "small.yaml", "epochs=2", lists(THIRD, TARGET)]
    expect(*words, "--run", "whole")
    with stopped_at(3):
        expect(*words, "--run", "parts", code=1)
    expect("resume", "runs/small/parts")
    assert fingerprint(Path("runs/small/parts")) == fingerprint(Path("runs/small/whole"))
    one, other = yaml.safe_load(Path("runs/small/whole/config.yaml").read_text())["data"]["extra"]
    assert (one["name"], one["share"], one["replacement"], one["layout"]) == ("npz", "1/3", True, None)
    assert other == TARGET
    manifest = read_sealed(Path("runs/small/whole/manifest.json"))
    assert manifest["data"]["splits"]["extra"] == 39
    assert manifest["modules"]["data.extra.1"]["file"].endswith("mine.py")
    assert "are equal, to the last bit" in expect("reproduce", "runs/small/whole", "--run", "again")


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        ([{**THIRD, "share": 0.7}, THIRD], "data.extra: expected shares whose sum is below 1, got 7/10 + 1/3 = 31/30"),
        ([THIRD, {"name": "npz", "path": "more.npz"}], "data.extra.share: required, and not given"),
        ([THIRD, {**THIRD, "share": 2}], "data.extra.share: expected a share in (0, 1), got 2"),
        ([THIRD, {**THIRD, "replacement": "maybe"}], "data.extra.replacement: expected true or false, got 'maybe'"),
        ([THIRD, {**THIRD, "paht": 1}], "data.extra.paht: unknown key; did you mean 'path'?"),
        ([THIRD, {**THIRD, "name": "nzp"}], "data.extra.name: unknown dataset 'nzp'; did you mean 'npz'"),
        ([THIRD, {**THIRD, "path": "other.npz"}], "data.extra.path: expected a file, got nothing"),
        (
            [THIRD, {**THIRD, "layout": "nchw"}],
            "split extra, source 2: expected inputs of shape (1, 8, 8), as in source",
        ),
        (
            [THIRD, {"share": "1/3"}],
            "data.extra: npz sets no extra examples apart; name a file of them, like {file:",
        ),
        ([THIRD, {**THIRD, "share": "1/100"}], "data.extra: expected 1 to 11 extra examples in a batch of 12, got 0"),
        ([THIRD, 3], "data.extra: expected"),
        ([], "data.extra: "),
    ],
    ids=str,
)
def test_a_wrong_source_of_several_is_refused_before_anything_is_written(
    more: Path, expect: Verb, extra: list[Any], message: str
):
    said = expect("train", "small.yaml", "--run", "a", lists(*extra), code=2)
    assert message in said.replace("\n  ", " "), said
    assert not Path("runs").exists()
