"""Files and settings of a config start no program by way of a library."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import matplotlib
import numpy as np
import pytest
import torch
from PIL import Image

from buttress.analysis.pictures import figure_at
from buttress.errors import DataError, ModelError
from buttress.training.curves import draw_curves
from buttress_plugins.data.image_folder import ImageFolder
from buttress_plugins.models.zoo import timm_model

POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.parametrize("read_before", [True, False], ids=["before", "while_training"])
def test_an_image_that_is_postscript_starts_no_program(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, read_before: bool
) -> None:
    program = tmp_path / "programs" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\nexit 0\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setattr("PIL.EpsImagePlugin.gs_binary", None)
    for split in ("train", "test"):
        for name in ("a", "b"):
            folder = tmp_path / "images" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.zeros((8, 8, 3), dtype=np.uint8)).save(folder / "0.png")
    (tmp_path / "images" / "train" / "a" / "1.png").write_bytes(POSTSCRIPT)
    if not read_before:
        monkeypatch.setattr("buttress_plugins.data.image_folder.READ_BEFORE", 0)

    def read() -> None:
        data = ImageFolder(root=tmp_path / "images", size=8, workers=0).load(0)
        list(data.train.batches(torch.arange(len(data.train)), 3))

    with pytest.raises(DataError, match=r"1\.png cannot be read"):
        read()
    assert not (tmp_path / "canary").exists()


@pytest.mark.parametrize("option", ["checkpoint_path", "pretrained_cfg", "pretrained_cfg_overlay", "cache_dir"])
def test_an_option_of_timm_reads_no_file(option: str) -> None:
    pytest.importorskip("timm")
    with pytest.raises(ModelError, match=rf"option '{option}' is not taken"):
        timm_model(arch="resnet18", num_classes=2, in_channels=3, options={option: "weights.pth"})


def test_a_matplotlibrc_of_the_working_folder_starts_no_latex(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = tmp_path / "programs" / "latex"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/canary\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=":")
    monkeypatch.setitem(matplotlib.rcParams, "text.usetex", True)  # as it has it after reading such a file
    row = {"track": "live", "best_epoch": 1, "n": 8, "robust_best": 0.5, "robust_last": 0.5}
    rows: Any = [SimpleNamespace(**row)]
    records: Any = [SimpleNamespace(track="live", split="test", epoch=1, robust=0.5)]
    draw_curves(tmp_path / "curves.png", records, rows, [1], "title", "fgsm", "test")
    with figure_at(tmp_path / "figure.png", "title") as axes:
        axes.plot([0, 1], [0, 1], label="live")
    assert not (tmp_path / "canary").exists()
    assert matplotlib.rcParams["text.usetex"]
