"""Files of other people, combined: torch.save in all its forms, shards with an index, wrappers, several dtypes."""

import json
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from buttress.errors import CheckpointError, ModelError
from buttress.kernels import MEAN, combine_files, geometric_median_files, median_files


def version(number: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(number)
    pool = torch.randn(100, generator=generator)
    return {
        "conv.weight": nn.Parameter(torch.randn(4, 3, 3, 3, generator=generator)),
        "view": pool[7:19].view(3, 4),  # of a storage that holds more
        "again": pool[5:50],
        "scalar": torch.randn((), generator=generator, dtype=torch.float64),
        "empty": torch.zeros(0, 2),
        "half": torch.randn(5, generator=generator).bfloat16(),
        "count": torch.tensor(number),
    }


def legacy(value: object, path: Path) -> None:
    torch.save(value, path, _use_new_zipfile_serialization=False)


def strided(value: Any, path: Path) -> None:
    torch.save({**value, "conv.weight": value["conv.weight"].detach().to(memory_format=torch.channels_last)}, path)


def rewritten(value: object, path: Path, change: Callable[[str, bytes], bytes], compression: int) -> None:
    torch.save(value, path)
    with zipfile.ZipFile(path) as archive:
        parts = {part.filename: archive.read(part) for part in archive.infolist()}
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in parts.items():
            archive.writestr(name, change(name, content))


def from_another_machine(value: Any, path: Path) -> None:
    def swap(name: str, content: bytes) -> bytes:
        return b"big" if name.endswith("byteorder") else content[::-1] if "/data/" in name else content

    value = {name: tensor.detach().flatten()[:1].clone() for name, tensor in value.items() if tensor.numel()}
    rewritten(value, path, swap, zipfile.ZIP_STORED)


def assert_medians(actual: dict[str, Tensor], inputs: list[dict[str, Tensor]]) -> None:
    assert set(actual) == set(inputs[0])
    for name, value in actual.items():
        stack = torch.stack([each[name].detach() for each in inputs])
        assert torch.equal(value, stack.median(0).values if value.is_floating_point() else stack[-1]), name
        assert value.dtype == stack.dtype


def in_folder(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# Files of torch.save


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".ckpt", ""])
def test_an_archive_of_torch_is_read_in_place(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(tempfile, "TemporaryFile", None)
    paths = [tmp_path / f"{number}{suffix}" for number in range(3)]
    for number, path in enumerate(paths):
        torch.save(version(number), path)
    median_files(paths, tmp_path / "out.safetensors")
    assert_medians(load_file(tmp_path / "out.safetensors"), [version(number) for number in range(3)])


@pytest.mark.parametrize("save", [legacy, strided])
def test_any_other_file_of_torch_is_copied_and_nothing_stays(tmp_path: Path, save: Callable[..., None]):
    paths = [tmp_path / f"{number}.pth" for number in range(3)]
    for number, path in enumerate(paths):
        save(version(number), path)
    median_files(paths, tmp_path / "out")
    assert_medians(load_file(tmp_path / "out"), [version(number) for number in range(3)])
    assert in_folder(tmp_path) == ["0.pth", "1.pth", "2.pth", "out"]


def test_an_archive_of_another_order_of_bytes_is_turned(tmp_path: Path):
    from_another_machine(version(3), tmp_path / "a.pth")
    assert combine_files([tmp_path / "a.pth"], MEAN)["view"].item() == version(3)["view"].flatten()[0].item()


def test_forms_may_be_mixed(tmp_path: Path):
    torch.save(version(0), tmp_path / "0.pth")
    legacy(version(1), tmp_path / "1.pt")
    save_file({name: tensor.detach().clone() for name, tensor in version(2).items()}, tmp_path / "2.safetensors")
    result = median_files([tmp_path / name for name in ("0.pth", "1.pt", "2.safetensors")])
    assert_medians(result, [version(number) for number in range(3)])


def ema(weights: dict[str, Tensor]) -> dict[str, Any]:
    return {"model": weights, "model_ema": {name: tensor + 1 for name, tensor in weights.items()}}


def training(weights: dict[str, Tensor]) -> dict[str, Any]:
    state = {0: {"exp_avg": torch.zeros(3), "step": torch.tensor(1.0)}}
    return {"epoch": 3, "state_dict": weights, "optimizer": {"state": state}, "best_acc1": torch.tensor(0.5)}


def averaged(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    model = nn.Linear(3, 2)
    model.load_state_dict(weights)
    return AveragedModel(nn.DataParallel(model)).state_dict()


WRAPPED: dict[str, Callable[[dict[str, Tensor]], dict[str, Any]]] = {
    "parallel": lambda weights: {"module." + name: tensor for name, tensor in weights.items()},
    "compiled": lambda weights: {"model": {"_orig_mod." + name: tensor for name, tensor in weights.items()}},
    "training": training,
    "averaged": averaged,
}


@pytest.mark.parametrize("wrapper", WRAPPED)
@pytest.mark.parametrize("first", [True, False])
def test_wrappers_make_no_difference(tmp_path: Path, wrapper: str, first: bool):
    values = [nn.Linear(3, 2).state_dict() for _ in range(2)]
    torch.save(values[0], tmp_path / "plain.pth")
    torch.save(WRAPPED[wrapper](values[1]), tmp_path / "wrapped.pth")
    paths = [tmp_path / "plain.pth", tmp_path / "wrapped.pth"][:: -1 if first else 1]
    result = combine_files(paths, MEAN)
    assert len(result) == 2
    for name, tensor in result.items():
        plain = name.rpartition(".")[2]
        torch.testing.assert_close(tensor, (values[0][plain] + values[1][plain]) / 2)


def test_of_several_sets_one_is_chosen_by_its_key(tmp_path: Path):
    path = tmp_path / "w.pth"
    torch.save(ema({"w": torch.zeros(2)}), path)
    with pytest.raises(ModelError, match=r"w.pth holds 2 sets of weights: 'model', 'model_ema'; choose one.*--key"):
        median_files([path])
    with pytest.raises(ModelError, match=r"w.pth has no weights under the key 'ema'"):
        median_files([path], key="ema")
    assert median_files([path], key="model_ema")["w"].tolist() == [1, 1]


class Calls:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return print, ("code of the file ran",)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-30])


def promising(path: Path) -> None:
    """Where the pickle says 100 elements, it says a million, and the archive has no more than before."""
    more = b"J" + (1_000_000).to_bytes(4, "little")
    rewritten(
        {"w": torch.zeros(100)},
        path,
        lambda name, content: content.replace(b"Kd", more) if name.endswith("data.pkl") else content,
        zipfile.ZIP_STORED,
    )


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "code": (lambda path: torch.save({"w": torch.zeros(2), "x": Calls()}, path), "restricted loader.*it asks for"),
    "truncated": (truncated, "refused by torch's restricted loader.*truncated, or no weights"),
    "promising": (promising, r"1.pth cannot be read: it has .* bytes, and places 'w', .*the file is damaged"),
    "text": (lambda path: path.write_text("hello"), "refused by torch's restricted loader"),
    "missing": (lambda path: path.unlink(), "1.pth does not exist"),
    "no weights": (lambda path: torch.save([torch.zeros(2)], path), "1.pth holds no weights"),
    "complex": (lambda path: torch.save({"w": torch.zeros(2, dtype=torch.cfloat)}, path), "'w' is .*complex64"),
    "sparse": (lambda path: torch.save({"w": torch.eye(2).to_sparse()}, path), "1.pth"),
    "other shape": (
        lambda path: torch.save({"w": torch.zeros(3)}, path),
        r"1.pth: 'w' has shape \(3,\), torch.float32",
    ),
    "integers": (lambda path: torch.save({"w": torch.zeros(2).int()}, path), r"1.pth: 'w' has .*int32, expected"),
    "other name": (lambda path: torch.save({"x": torch.zeros(2)}, path), "1.pth lacks 'w', unlike .*0.pth"),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_bad_files_of_torch_are_one_clear_error(tmp_path: Path, case: str, capsys: pytest.CaptureFixture[str]):
    for number in range(2):
        torch.save({"w": torch.zeros(2)}, tmp_path / f"{number}.pth")
    damage, message = BAD_FILES[case]
    damage(tmp_path / "1.pth")
    before = in_folder(tmp_path)
    with pytest.raises(CheckpointError, match=message):
        median_files([tmp_path / "0.pth", tmp_path / "1.pth"], tmp_path / "out")
    assert in_folder(tmp_path) == before
    assert capsys.readouterr().out == ""


# Shards


def sharded(folder: Path, number: int, change: Callable[[dict[str, str]], object] = dict) -> Path:
    folder.mkdir()
    save_file({"a": torch.full((3,), float(number))}, folder / "model-1.safetensors")
    torch.save({"b": torch.full((2,), float(-number)), "c": torch.tensor(number)}, folder / "model-2.bin")
    weight_map = {"b": "model-2.bin", "a": "model-1.safetensors", "c": "model-2.bin"}
    change(weight_map)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {"total_size": 28}, "weight_map": weight_map}))
    return index


def test_shards_are_named_by_their_index_or_its_folder(tmp_path: Path):
    index = sharded(tmp_path / "one", 1)
    sharded(tmp_path / "two", 5)
    whole = tmp_path / "three"
    whole.mkdir()
    tensors = {"a": torch.full((3,), 2.0), "b": torch.full((2,), -2.0), "c": torch.tensor(7)}
    save_file(tensors, whole / "model.safetensors")
    result = median_files([index, tmp_path / "two", whole])
    assert {name: tensor.tolist() for name, tensor in result.items()} == {"a": [2.0] * 3, "b": [-2.0] * 2, "c": 7}


BAD_MAPS: dict[str, tuple[Callable[[dict[str, str]], object], str]] = {
    "missing shard": (
        lambda m: m.update(a="gone.safetensors"),
        "index.json places 'a' in gone.safetensors, which does",
    ),
    "missing tensor": (lambda m: m.update(d="model-2.bin"), "model-2.bin lacks 'd', which .*index.json places there"),
    "more": (lambda m: m.pop("c"), "model-2.bin holds 'c', which .*index.json does not place there"),
    "outside": (lambda m: m.update(a="../one/model-1.safetensors"), "expected names of files beside the index, got"),
    "a number": (lambda m: m.update(a=3), "is no index of weights: expected an object 'weight_map'"),  # type: ignore
    "empty": (lambda m: m.clear(), "holds no tensors"),
}


@pytest.mark.parametrize("case", BAD_MAPS)
def test_a_bad_index_is_one_clear_error(tmp_path: Path, case: str):
    index = sharded(tmp_path / "one", 1, BAD_MAPS[case][0])
    with pytest.raises(CheckpointError, match=BAD_MAPS[case][1]):
        median_files([index], tmp_path / "out")
    assert in_folder(tmp_path) == ["one"]


def test_the_output_may_be_no_shard_and_a_folder_needs_an_index(tmp_path: Path):
    index = sharded(tmp_path / "one", 1)
    with pytest.raises(ValueError, match="is one of the files to read"):
        median_files([index], tmp_path / "one" / "model-1.safetensors")
    with pytest.raises(CheckpointError, match=r"is a folder: expected one index .* got none; name the file itself"):
        median_files([tmp_path])


# Dtypes


def mixed(folder: Path) -> list[Path]:
    values = np.random.default_rng(0).normal(size=(3, 2_000))
    for number, dtype in enumerate([torch.float16, torch.bfloat16, torch.float32]):
        torch.save({"w": torch.tensor(values[number]).to(dtype), "n": torch.tensor(number)}, folder / f"{number}.pth")
    return [folder / f"{number}.pth" for number in range(3)]


def test_mixed_dtypes_are_refused_with_the_cure(tmp_path: Path):
    paths = mixed(tmp_path)
    match = (
        "1.pth: 'w' is torch.bfloat16, expected torch.float16 as in .*0.pth; choose .*--dtype float32, in Python dtype"
    )
    with pytest.raises(CheckpointError, match=match):
        median_files(paths, tmp_path / "out")
    assert len(in_folder(tmp_path)) == 3


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
@pytest.mark.parametrize("budget", [10_000, 1 << 20])
def test_a_dtype_converts_and_rounds_once(tmp_path: Path, dtype: torch.dtype, budget: int):
    paths = mixed(tmp_path)
    stack = torch.stack([torch.load(path)["w"].double() for path in paths])
    seen: list[tuple[int, int]] = []
    result = combine_files(paths, MEAN, dtype=dtype, budget=budget, progress=lambda *now: seen.append(now))
    expected = (stack[0] + stack[1] + stack[2]) / 3
    working = torch.promote_types(dtype, torch.float32)
    assert torch.equal(result["w"], expected.to(working).to(dtype))
    assert result["n"].tolist() == 2
    assert seen[-1] == (2_000 * 8 + 8, 2_000 * 8 + 8)
    assert torch.equal(median_files(paths, dtype=dtype)["w"], stack.median(0).values.to(dtype))
    assert geometric_median_files(paths, dtype=dtype)["w"].dtype == dtype


def test_integers_are_not_converted_and_no_other_dtype_is_taken(tmp_path: Path):
    for number, dtype in enumerate([torch.int32, torch.int64]):
        save_file({"n": torch.zeros(2, dtype=dtype)}, tmp_path / f"{number}")
    with pytest.raises(CheckpointError, match=r"'n' is torch.int64, expected torch.int32 .*; convert one of them"):
        median_files([tmp_path / "0", tmp_path / "1"], dtype=torch.float32)
    with pytest.raises(ValueError, match=r"dtype: expected one of torch.float64, .* got torch.int8"):
        median_files([tmp_path / "0"], dtype=torch.int8)
