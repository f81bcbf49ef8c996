"""Sealed files: what comes back is what was written, byte for byte, or an error."""

import json
from pathlib import Path

import pytest
import torch

from buttress.errors import CheckpointError
from buttress.nn.loading import load_weights
from buttress.storage.files import write_tensors
from buttress.storage.reading import read_facts
from buttress.storage.seals import expect_whole, read_sealed, read_weights, write_sealed, write_weights

BODY = {"lr": 1e-05, "name": "run", "steps": [1, 2]}
TENSORS = {
    "w": torch.arange(6.0).view(2, 3),
    "half": torch.ones(3, dtype=torch.bfloat16),
    "n": torch.tensor(7),
    "last": torch.zeros(2, 4, 3, 3).contiguous(memory_format=torch.channels_last),
    "none": torch.empty(0, 2),
}


def test_a_sealed_object_comes_back(tmp_path: Path):
    write_sealed(tmp_path / "a.json", BODY)
    assert read_sealed(tmp_path / "a.json") == BODY
    assert json.loads((tmp_path / "a.json").read_text())["lr"] == 1e-05  # any reader of JSON can read it


@pytest.mark.parametrize(
    ("old", "new"),
    [("1e-05", "1e-06"), ("1e-05", "1E-05"), ("run", "Run"), ("}\n", "}"), ('"sha256"', '"sha257"'), (" 1,", "  1,")],
)
def test_any_changed_byte_of_a_sealed_object_is_damage_even_where_the_value_is_the_same(
    tmp_path: Path, old: str, new: str
):
    path = tmp_path / "a.json"
    write_sealed(path, BODY)
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))
    with pytest.raises(CheckpointError, match=rf"{path} is damaged"):
        read_sealed(path)


@pytest.mark.parametrize("text", ["[]", "{}", "3", '{"a": 1, "a": 2}'])
def test_json_without_a_seal_is_refused(tmp_path: Path, text: str):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(CheckpointError, match="does not record its sha256"):
        read_sealed(tmp_path / "a.json")


def test_json_too_deep_to_read_is_an_error_like_any_other(tmp_path: Path):
    (tmp_path / "a.json").write_text("[" * 200_000)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_sealed(tmp_path / "a.json")


def test_weights_of_every_layout_and_dtype_come_back_with_their_facts(tmp_path: Path):
    write_weights(tmp_path / "w.safetensors", TENSORS, {"track": "live", "epoch": 3})
    tensors, facts = read_weights(tmp_path / "w.safetensors")
    assert facts == {"track": "live", "epoch": 3}
    assert set(tensors) == set(TENSORS)
    assert all(torch.equal(tensors[name], value) for name, value in TENSORS.items())


def test_a_flipped_bit_of_any_byte_of_a_weights_file_is_noticed(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_weights(path, TENSORS, {"track": "live", "epoch": 3})
    whole = path.read_bytes()
    for at in range(len(whole)):
        damaged = bytearray(whole)
        damaged[at] ^= 1 << at % 8
        path.write_bytes(damaged)
        with pytest.raises(CheckpointError, match=str(path)):
            read_weights(path)


def test_the_same_is_noticed_piece_by_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("buttress.storage.tensor_file._PIECE", 16)
    path = tmp_path / "w.safetensors"
    write_weights(path, TENSORS, {"track": "live", "epoch": 3})
    expect_whole(path)
    whole = path.read_bytes()
    data = len(whole) - sum(tensor.nbytes for tensor in TENSORS.values())
    for at in range(data, len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 1 << at % 8]) + whole[at + 1 :])
        with pytest.raises(CheckpointError, match=rf"{path} is damaged: the sha256 of its contents"):
            expect_whole(path)


def test_weights_without_a_seal_are_taken_from_strangers_and_never_for_a_run_s_own(tmp_path: Path):
    model = torch.nn.Linear(2, 3)
    write_tensors(tmp_path / "w.safetensors", model.state_dict(), {"epoch": 3})
    load_weights(torch.nn.Linear(2, 3), tmp_path / "w.safetensors")
    expect_whole(tmp_path / "w.safetensors")
    with pytest.raises(CheckpointError, match="does not record its sha256"):
        read_weights(tmp_path / "w.safetensors")


def test_damaged_weights_of_a_run_are_not_started_from(tmp_path: Path):
    path = tmp_path / "w.safetensors"
    write_weights(path, torch.nn.Linear(2, 3).state_dict(), {"epoch": 3})
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"is damaged: the sha256 of its contents"):
        load_weights(torch.nn.Linear(2, 3), path)


@pytest.mark.parametrize("facts", ["[]", "{", "3"])
def test_facts_that_are_none_are_an_error(tmp_path: Path, facts: str):
    from safetensors.torch import save_file

    save_file({"w": torch.ones(1)}, tmp_path / "w.safetensors", {"buttress": facts})
    with pytest.raises(CheckpointError, match=r"w\.safetensors"):
        read_facts(tmp_path / "w.safetensors")
