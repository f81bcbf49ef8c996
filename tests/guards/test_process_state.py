"""A hook that changes the process for everybody is named, and what it changed is put back."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from buttress import Split, evaluate
from buttress.components.loaded import LoadedPlugin
from buttress.engine.process_state import ProcessState
from buttress.errors import HookError, StorageError
from buttress.storage.run_folder import RunFolder
from tests.core.helpers import LINF, batch_of, engine_of, plugin, step
from tests.models import MLP

CHANGES: dict[str, Callable[[], object]] = {
    "default dtype": lambda: torch.set_default_dtype(torch.float64),
    "number of torch's threads": lambda: torch.set_num_threads(torch.get_num_threads() + 1),
    "takes gradients": lambda: torch.set_grad_enabled(False),
    "deterministic algorithms": lambda: torch.use_deterministic_algorithms(True),
    "working folder": lambda: os.chdir("/"),
    "seed of torch's global generator": lambda: torch.manual_seed(1234567),
}


@pytest.fixture(autouse=True)
def _put_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    before = ProcessState.now()
    yield
    before.put_back()


def attack(change: Callable[[], object], error: BaseException | None = None) -> Any:
    def generate_adv(self: Any, batch: Any) -> Any:
        change()
        if error is not None:
            raise error
        return batch.x

    return plugin("bad", generate_adv=generate_adv)


@pytest.mark.parametrize("what", CHANGES)
def test_a_hook_that_changes_the_process_is_named(what: str):
    before = ProcessState.now()
    with pytest.raises(HookError, match=rf"(?s)plugin 'bad' .*\n  .*{what} .*changed from"):
        step(engine_of(MLP(), attack(CHANGES[what])))
    assert not before.changed()


@pytest.mark.parametrize("what", CHANGES)
def test_an_attack_of_an_evaluation_that_does_is_named(what: str):
    before, given = ProcessState.now(), batch_of()
    with pytest.raises(HookError, match=what):
        evaluate(MLP(), Split(given.x, given.y), LoadedPlugin("bad", attack(CHANGES[what])), LINF)
    assert not before.changed()


@pytest.mark.parametrize("what", CHANGES)
def test_what_a_hook_that_raises_has_changed_is_put_back(what: str):
    before = ProcessState.now()
    with pytest.raises(HookError, match=r"ValueError: no \(test_process_state\.py:\d+\)$"):
        step(engine_of(MLP(), attack(CHANGES[what], ValueError("no"))))
    assert not before.changed()


def test_a_wrapper_may_change_the_process_around_what_it_wraps():
    def quick(self: Any) -> Any:
        before = torch.get_num_threads()
        torch.set_num_threads(before + 1)
        try:
            return (yield)
        finally:
            torch.set_num_threads(before)

    step(engine_of(MLP(), plugin("w", wrapper=True, generate_adv=quick), "fgsm"))


def test_draws_from_the_global_generator_are_no_change():
    step(engine_of(MLP(), attack(lambda: torch.rand(3))))


def test_a_hook_that_comes_back_in_a_forked_child_ends_it_there(capfd: pytest.CaptureFixture[str]):
    children: list[int] = []

    def fork() -> None:
        if child := os.fork():
            children.append(child)

    step(engine_of(MLP(), attack(fork)))
    _, status = os.waitpid(children[0], 0)
    assert os.waitstatus_to_exitcode(status) == 1
    assert "plugin 'bad' (tests.core.helpers.bad), hook generate_adv, epoch 1, step 1" in capfd.readouterr().err


def test_a_hook_may_fork_where_its_child_ends_by_itself():
    def fork() -> None:
        if child := os.fork():
            assert os.waitpid(child, 0)[1] == 0
        else:
            os._exit(0)

    step(engine_of(MLP(), attack(fork)))


def test_a_forked_child_saves_nothing_into_the_run_folder_of_its_parent(tmp_path: Path):
    folder = RunFolder(tmp_path)
    with folder.held():
        folder.expect_there()
        if not (child := os.fork()):
            try:
                folder.expect_there()
            except StorageError:
                os._exit(3)
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        folder.expect_there()
