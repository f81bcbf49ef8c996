"""The device that ``device: auto`` stands for, in one process and in several of one launch."""

import pytest
import torch

from buttress.config.file import ConfigFile
from buttress.config.yaml_source import parse_yaml
from buttress.errors import ConfigError
from buttress.training.device import configured_device

CONFIG = """
name: a
data: {name: digits}
model: {name: mlp}
threat: {norm: linf, eps: 1/10}
plugins: [clean]
optimizer: {name: sgd, lr: 0.1}
epochs: 1
evaluation: {best_by: test}
"""


def device(given: str) -> torch.device:
    return configured_device(ConfigFile(parse_yaml(f"{CONFIG}device: {given}\n", "a.yaml")))


@pytest.mark.parametrize(
    ("gpus", "rank", "given", "expected"),
    [
        (0, 1, "auto", "cpu"),
        (8, None, "auto", "cuda"),
        (8, 0, "auto", "cuda:0"),
        (8, 3, "auto", "cuda:3"),
        (8, 3, "cuda:5", "cuda:5"),
        (8, 3, "cpu", "cpu"),
    ],
)
def test_each_process_of_a_machine_has_a_gpu_of_its_own(
    gpus: int, rank: int | None, given: str, expected: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    if rank is not None:
        for name, value in {"RANK": 8 + rank, "LOCAL_RANK": rank, "WORLD_SIZE": 16}.items():
            monkeypatch.setenv(name, str(value))
    assert device(given) == torch.device(expected)


def test_srun_may_show_each_process_its_own_gpu_alone(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    for name, value in {"PROCID": 3, "STEP_NUM_TASKS": 4, "LOCALID": 3}.items():
        monkeypatch.setenv(f"SLURM_{name}", str(value))
    assert device("auto") == torch.device("cuda:0")


def test_more_processes_than_gpus_are_one_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"RANK": 3, "LOCAL_RANK": 3, "WORLD_SIZE": 4}.items():
        monkeypatch.setenv(name, str(value))
    with pytest.raises(ConfigError, match="device: auto takes a GPU for each process, and process 4 on this machine"):
        device("auto")
