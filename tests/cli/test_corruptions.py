"""``buttress corruptions``: its shares are those of a literal loop; what is done is kept; wrong input is one error."""

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from buttress import load_model
from buttress.cli import main
from buttress.data.order import subset
from buttress.evaluation import corruptions
from buttress_plugins.data.digits import Digits

N = 60


@pytest.fixture
def run(noisy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A finished run on digits; the working folder is that of the corrupted images ``c``."""
    monkeypatch.chdir(tmp_path)
    return noisy / "s0"


def corrupted(severity: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """``[N,8,8,1]`` uint8 digits, others for each severity, and their labels; ``none`` has no noise."""
    test, rows = Digits().load(0).test, slice(N * severity, N * severity + N)
    images, noise = test.x[rows].permute(0, 2, 3, 1).numpy(), np.random.default_rng(severity)
    strength = 0.0 if kind == "none" else severity / 6
    moved = np.clip(images + strength * noise.standard_normal(images.shape), 0, 1)
    return (moved * 255).round().astype(np.uint8), test.y[rows].numpy().astype(np.uint8)


def write(folder: Path, *kinds: str) -> Path:
    """A folder in the layout of CIFAR-10-C."""
    folder.mkdir(exist_ok=True)
    for kind in kinds:
        parts = [corrupted(severity, kind) for severity in range(1, 6)]
        np.save(folder / f"{kind}.npy", np.concatenate([images for images, _ in parts]))
        np.save(folder / "labels.npy", np.concatenate([labels for _, labels in parts]))
    return folder


def literal(run: Path, kind: str, severity: int, chosen: Any = slice(None)) -> float:
    """The accuracy of the run's best weights."""
    images, labels = corrupted(severity, kind)
    with torch.no_grad():
        logits = load_model(run).eval()(torch.from_numpy(images / np.float32(255)).permute(0, 3, 1, 2))
    return float((logits.argmax(1).numpy() == labels)[chosen].mean())


Measure = Callable[..., dict[str, Any]]


@pytest.fixture
def measured(run: Path, capsys: pytest.CaptureFixture[str]) -> Measure:
    """Measures corruptions of ``c``, with further options; returns the answer."""

    def measure(*options: str) -> dict[str, Any]:
        assert main(["corruptions", str(run), "--images", "c", *options, "--json"]) == 0
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return measure


def test_shares_are_those_of_a_literal_loop_over_corruptions_and_severities(run: Path, measured: Measure) -> None:
    write(Path("c"), "none", "fog")

    result = measured("--corruption", "none", "--corruption", "fog")

    shares = {(kind, severity): literal(run, kind, severity) for kind in ("none", "fog") for severity in range(1, 6)}
    for (kind, severity), share in shares.items():
        assert result["corruptions"][kind][severity - 1]["accuracy"] == share
    assert result["mean"] == pytest.approx(np.mean(list(shares.values())), abs=1e-12)
    assert len(set(shares.values())) > 1


def test_the_same_examples_are_taken_of_each_severity(run: Path, measured: Measure) -> None:
    write(Path("c"), "none")

    result = measured("--corruption", "none", "--examples", "25")

    chosen = subset(N, 25).numpy()
    shares = [literal(run, "none", severity, chosen) for severity in range(1, 6)]
    assert [(share["n"], share["accuracy"]) for share in result["corruptions"]["none"]] == [
        (25, each) for each in shares
    ]


def test_all_corruptions_of_the_benchmark_are_the_default(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(Path("c"), *corruptions.STANDARD, "spatter")

    assert main(["corruptions", str(run), "--images", "c", "--examples", "10"]) == 0
    table = capsys.readouterr().out

    assert re.search(r"mean over 15 corruptions: \d+\.\d %", table)
    assert "spatter" not in table
    assert "jpeg_compression" in table


def test_a_stopped_measurement_goes_on_with_what_is_missing(
    run: Path, measured: Measure, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(Path("c"), "none", "fog", "snow")
    options = [word for kind in ("none", "fog", "snow") for word in ("--corruption", kind)]
    begun: list[int] = []
    right = corruptions._right

    def counted(*arguments: Any) -> torch.Tensor:
        begun.append(len(begun))
        if len(begun) == 3:
            raise KeyboardInterrupt
        return right(*arguments)

    monkeypatch.setattr(corruptions, "_right", counted)
    main(["corruptions", str(run), "--images", "c", *options])
    assert "2 of 3 corruptions are kept in" in capsys.readouterr().err

    kept = measured(*options)
    assert len(begun) == 4, "only the third one was measured"
    assert list(kept["corruptions"]) == ["none", "fog", "snow"]

    again = measured(*options)
    assert len(begun) == 4
    assert again == kept


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ("folder", "c/nowhere is no folder; expected one with labels.npy"),
        ("name", r"--corruption fgo: c has fog, and no fgo\.npy; did you mean 'fog'"),
        ("benchmark", "c lacks gaussian_noise, shot_noise"),
        ("labels", r"labels\.npy: expected 300 integer labels, one for each image, got uint8 \(299,\)"),
        ("missing labels", r"labels\.npy does not exist"),
        ("size", r"fog\.npy: expected images \[n,8,8,1\] for the model, got \[300, 7, 8, 1\]"),
        ("severities", r"fog\.npy: expected as many images of each of 5 severities, got 299 in all"),
        ("floats", r"fog\.npy: expected uint8 images \[n,H,W,C\], got float64"),
        ("class", r"labels\.npy"),
        ("archive", r"fog\.npy: expected a file of np\.save, got an \.npz"),
    ],
)
def test_wrong_input_is_one_error_before_anything_is_measured(
    run: Path, capsys: pytest.CaptureFixture[str], fault: str, message: str
) -> None:
    folder = write(Path("c"), "fog")
    images, labels = np.load(folder / "fog.npy"), np.load(folder / "labels.npy")
    options = ["--images", "c", "--corruption", "fog"]
    if fault == "folder":
        options[1] = "c/nowhere"
    if fault == "name":
        options[3] = "fgo"
    if fault == "benchmark":
        options = options[:2]
    if fault == "labels":
        np.save(folder / "labels.npy", labels[:-1])
    if fault == "missing labels":
        (folder / "labels.npy").unlink()
    if fault == "size":
        np.save(folder / "fog.npy", images[:, 1:])
    if fault == "severities":
        np.save(folder / "fog.npy", images[:-1])
        np.save(folder / "labels.npy", labels[:-1])
    if fault == "floats":
        np.save(folder / "fog.npy", images / 255)
    if fault == "class":
        np.save(folder / "labels.npy", np.full_like(labels, 10))
    if fault == "archive":
        np.savez(folder / "fog.npz", x=images)
        (folder / "fog.npz").rename(folder / "fog.npy")

    assert main(["corruptions", str(run), *options]) == 2

    error = capsys.readouterr().err
    assert re.search(message, error), error
    assert "Traceback" not in error
    assert not list((run / "corruptions").glob("*.json"))
