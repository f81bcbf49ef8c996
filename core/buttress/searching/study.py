"""The door to Optuna: a study in a journal file, whose trials are asked for, reported and told. Loads no torch.

Optuna is an extra, so it is imported when a study is opened.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import mean
from typing import TYPE_CHECKING, Any, Literal

from buttress.errors import CheckpointError, ConfigError
from buttress.searching.space import Dimension, SearchedChoice, Space
from buttress.storage.files import make_folder, storage_errors

if TYPE_CHECKING:
    import optuna

PRUNERS = ("median", "none")
"""Names of the pruners."""
STARTUP = 5
"""Number of finished trials that the median pruner waits for."""

TrialEnding = Literal["running", "done", "pruned", "broken", "failed"]

_SEEDS, _REASON = "seeds", "reason"


@dataclass(frozen=True)
class SearchTrial:
    """A trial as the study knows it.

    Args:
        number: position in the order in which trials were begun, from 0.
        settings: key of the config to value, as an override has it.
        state: whether it is at work, or how it ended.
        curve: epoch (from 1) to the accuracy in [0, 1] that was reported for it.
        values: seed to the accuracy in [0, 1] that its run came to, of a trial that is done.
        reason: why it was broken off or failed.
    """

    number: int
    settings: Mapping[str, str]
    state: TrialEnding
    curve: Mapping[int, float] = field(default_factory=dict)
    values: Mapping[int, float] = field(default_factory=dict)
    reason: str = ""

    @property
    def value(self) -> float:
        """The mean of its runs' accuracies, which the search maximises; of a trial that is done."""
        return mean(self.values.values())


class OptunaStudy:
    """Trials of a search, chosen by Optuna and kept in its journal.

    The draws of a trial depend on the seed, its number and the trials before it, so a study that was stopped goes on as
    if it had not been.

    Args:
        path: journal file, which is made if it is missing.
        space: settings to choose.
        seed: seed of the sampler.
        pruner: one of ``PRUNERS``.

    Raises:
        ConfigError: Optuna is not installed.
        CheckpointError: the journal is damaged.
        StorageError: the disk is full or refuses.
    """

    def __init__(self, path: Path, space: Space, seed: int, pruner: str = "median") -> None:
        self._optuna = import_optuna()
        self._path, self._space, self._seed = path, space, seed
        _cut_unfinished_line(path)
        with self._at_work():
            self._study = self._open(pruner)
        self._at_hand: dict[int, optuna.Trial] = {}

    def ask(self) -> SearchTrial:
        """Begin the next trial."""
        with self._at_work():
            self._study.sampler = self._sampler(len(self._study.get_trials(deepcopy=False)))
            return self._begun(self._study.ask())

    def unfinished(self) -> list[SearchTrial]:
        """Trials that an earlier process began and did not end; they are at work again."""
        with self._at_work():
            running = self._study.get_trials(deepcopy=False, states=[self._optuna.trial.TrialState.RUNNING])
            again = []
            for frozen in running:
                self._study.sampler = self._sampler(frozen.number)
                again.append(self._begun(self._optuna.trial.Trial(self._study, frozen._trial_id)))
            return again

    def report(self, number: int, epoch: int, accuracy: float) -> bool:
        """Report the accuracy of a trial after an epoch (from 1), once; returns whether the pruner ends the trial."""
        with self._at_work():
            trial = self._at_hand[number]
            if epoch not in self._frozen(number).intermediate_values:
                trial.report(accuracy, epoch)
            return trial.should_prune()

    def finish(self, number: int, values: Mapping[int, float]) -> None:
        """End a trial with the accuracies of its runs, by seed; their mean is what the search maximises."""
        self._tell(number, {_SEEDS: {str(seed): value for seed, value in values.items()}}, mean(values.values()))

    def prune(self, number: int) -> None:
        """End a trial because the pruner said so."""
        self._tell(number, {}, self._optuna.trial.TrialState.PRUNED)

    def break_off(self, number: int, reason: str) -> None:
        """End a trial whose training has diverged or raised: the sampler takes it for as bad as a pruned one."""
        self._tell(number, {_REASON: reason}, self._optuna.trial.TrialState.PRUNED)

    def fail(self, number: int, reason: str) -> None:
        """End a trial that says nothing about its settings; the sampler leaves it out."""
        self._tell(number, {_REASON: reason}, self._optuna.trial.TrialState.FAIL)

    def trials(self) -> list[SearchTrial]:
        """All trials in the order in which they were begun."""
        with self._at_work():
            return [self._known(each) for each in self._study.get_trials(deepcopy=False)]

    # Optuna's side

    def _open(self, pruner: str) -> optuna.Study:
        from optuna.storages import JournalStorage
        from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

        with storage_errors(self._path):
            make_folder(self._path.parent)
            storage = JournalStorage(JournalFileBackend(str(self._path), JournalFileOpenLock(str(self._path))))
            pruners = self._optuna.pruners
            study: optuna.Study = self._optuna.create_study(
                storage=storage,
                study_name="search",
                direction="maximize",
                sampler=self._sampler(0),
                pruner=pruners.MedianPruner(n_startup_trials=STARTUP) if pruner == "median" else pruners.NopPruner(),
                load_if_exists=True,
            )
            return study

    def _sampler(self, number: int) -> optuna.samplers.BaseSampler:
        digest = hashlib.sha256(f"{self._seed}/{number}".encode()).digest()
        seed = int.from_bytes(digest[:4], "big")
        sampler: optuna.samplers.BaseSampler = self._optuna.samplers.TPESampler(seed=seed, constant_liar=True)
        return sampler

    def _begun(self, trial: optuna.Trial) -> SearchTrial:
        """A trial at work; settings that it lacks, because a process was killed meanwhile, are drawn."""
        for dimension in self._space.dimensions:
            _suggest(trial, dimension)
        self._at_hand[trial.number] = trial
        return self._known(self._frozen(trial.number))

    def _frozen(self, number: int) -> optuna.trial.FrozenTrial:
        return self._study.get_trials(deepcopy=False)[number]

    def _known(self, frozen: optuna.trial.FrozenTrial) -> SearchTrial:
        states = self._optuna.trial.TrialState
        state: dict[Any, TrialEnding] = {states.COMPLETE: "done", states.PRUNED: "pruned", states.FAIL: "failed"}
        settings = {
            each.key: frozen.params[each.key]
            if isinstance(each, SearchedChoice)
            else each.write(frozen.params[each.key])
            for each in self._space.dimensions
            if each.key in frozen.params
        }
        reason = frozen.user_attrs.get(_REASON, "")
        if reason and frozen.state is states.PRUNED:
            state[states.PRUNED] = "broken"
        values = {int(seed): value for seed, value in frozen.user_attrs.get(_SEEDS, {}).items()}
        return SearchTrial(
            frozen.number,
            settings,
            state.get(frozen.state, "running"),
            dict(frozen.intermediate_values),
            values,
            reason,
        )

    def _tell(self, number: int, facts: Mapping[str, Any], end: float | optuna.trial.TrialState) -> None:
        with self._at_work():
            trial = self._at_hand.pop(number)
            for key, value in facts.items():
                trial.set_user_attr(key, value)
            self._study.tell(trial, end) if isinstance(end, float) else self._study.tell(trial, state=end)

    @contextmanager
    def _at_work(self) -> Iterator[None]:
        """Errors of the disk and of the journal as errors of buttress; Optuna's own notices are not for the user."""
        with storage_errors(self._path), _quiet(self._optuna):
            try:
                yield
            except (ValueError, KeyError) as problem:  # what the journal's reader raises at a line that is none
                raise CheckpointError(
                    f"{self._path} is damaged: {type(problem).__name__}: {problem}; put back a copy, or search under "
                    "another --name",
                    path=self._path,
                ) from problem


def import_optuna() -> Any:
    """The package.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        import optuna
    except ImportError as problem:
        raise ConfigError(
            f"search: its package optuna is not installed ({problem}); pip install 'buttress[search]'"
        ) from None
    return optuna


@contextmanager
def _quiet(optuna: Any) -> Iterator[None]:
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _suggest(trial: optuna.Trial, dimension: Dimension) -> None:
    if isinstance(dimension, SearchedChoice):
        trial.suggest_categorical(dimension.key, dimension.values)
    elif dimension.whole:
        trial.suggest_int(dimension.key, int(dimension.low), int(dimension.high), log=dimension.log)
    else:
        trial.suggest_float(dimension.key, dimension.low, dimension.high, log=dimension.log)


def _cut_unfinished_line(path: Path) -> None:
    """Remove the end of a line that a process was killed in; the journal's reader stops at it for ever."""
    with storage_errors(path):
        if not path.exists():
            return
        with path.open("rb+") as stream:
            content = stream.read()
            stream.truncate(content.rfind(b"\n") + 1)
