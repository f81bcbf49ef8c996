"""The validation split of a run, as its plugins get it."""

from pathlib import Path

import numpy as np
import pytest
import torch

from buttress.config.file import load_config
from buttress.errors import ConfigError
from buttress.training.assembly import Assembly, check_config
from buttress.types import Batch

from ..cli.conftest import make_workspace


def assembly_of(folder: Path, *overrides: str) -> Assembly:
    return check_config(load_config(folder / "small.yaml", overrides))


def validation_of(assembly: Assembly) -> list[Batch]:
    """The validation split as a plugin of the run gets it."""
    return list(assembly.engine.hooks.table["generate_adv"].providers[0].context.batches("validation"))


def test_plugins_of_a_run_get_its_validation_split_in_batches_of_training(tmp_path: Path):
    make_workspace(tmp_path)
    assembly = assembly_of(tmp_path, "data.batch_size=7")
    split, batches = assembly.data.validation, validation_of(assembly)
    assert split is not None
    assert {len(batch.x) for batch in batches[:-1]} == {7}
    assert torch.equal(torch.cat([batch.x for batch in batches]), split.x)
    assert torch.equal(torch.cat([batch.y for batch in batches]), split.y)
    assert all(batch.index is None for batch in batches)


def test_a_run_without_a_validation_split_has_none_for_plugins(tmp_path: Path):
    make_workspace(tmp_path)
    with np.load(tmp_path / "small.npz") as arrays:
        np.savez(tmp_path / "small.npz", **{name: array for name, array in arrays.items() if "val" not in name})
    assembly = assembly_of(tmp_path, "evaluation.best_by=test")
    assert assembly.data.validation is None
    with pytest.raises(ConfigError, match=r"the run has no validation split: set data\.validation"):
        validation_of(assembly)
