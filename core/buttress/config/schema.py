"""Every key of a config: its sections, their types, defaults and meanings. Loads no torch."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from buttress.components.per_epoch import CurveReader
from buttress.config.component_section import ClosedSection, ComponentSection, ExtraSection, ExtraSections, sources_of
from buttress.config.model_section import ModelSection
from buttress.config.optimizer_section import OptimizerSection
from buttress.config.values import AttackEntry, ComponentEntry, Count, PrecisionValue, RequirementText, Seed
from buttress.settings import Flag, Moment, NonNegative, NonNegativeFraction, Number, PerEpoch

FORMAT = 1
"""Version of the format of configs. It rises with every change that gives an older config another meaning, or none."""


class DataSection(ComponentSection):
    """``data``: further keys are the data set's settings."""

    name: str | None = Field(None, description="a data set: buttress plugins list --kind dataset")
    batch_size: Count = Field(128, description="training examples per step")
    drop_last: Flag = Field(False, description="leave out an incomplete last batch")
    replays: Count = Field(
        1,
        description="number of training steps in a row on each batch, augmented alike; an epoch has as many times more",
    )
    extra: ExtraSections | None = Field(
        None,
        description="further training examples, a share of every batch: {file: FILE, share: 1/2}; or a list of such "
        "sources",
    )

    @property
    def extras(self) -> dict[str, ExtraSection]:
        """Name of the section of each source of extra examples to the section."""
        return sources_of(self.extra)


class ThreatSection(ClosedSection):
    """``threat``: the perturbations that the adversary may make."""

    norm: Literal["linf", "l2"] = Field(description="norm of the perturbation")
    eps: NonNegativeFraction = Field(description="radius in units of the input, exact: 8/255")
    training_eps: Annotated[PerEpoch[NonNegativeFraction] | None, CurveReader(NonNegativeFraction)] = Field(
        None, description="radius in training, which may be a schedule over epochs; null: eps. Evaluations have eps"
    )
    box: list[Number] | None = Field([0.0, 1.0], min_length=2, max_length=2, description="range of inputs; null: none")


class ScheduleSection(ComponentSection):
    """``schedule``: further keys are the schedule's settings; without name and target it is constant."""

    name: str | None = Field(None, description="a schedule: buttress plugins list --kind schedule")
    warmup: Moment | None = Field(
        None,
        description="length of a warm-up in front of the schedule, in epochs (1.5) or as a share of the run in (0, 1): "
        "the factor rises batch by batch, in a straight line, to that of the schedule at the end of the warm-up",
    )
    warmup_from: NonNegative | None = Field(None, description="factor at the start of the warm-up (default: 0)")

    @property
    def warm_up(self) -> dict[str, float]:
        """The keys of the warm-up that are given."""
        given = {"warmup": self.warmup, "warmup_from": self.warmup_from}
        return {key: value for key, value in given.items() if value is not None}

    @model_validator(mode="after")
    def _constant(self) -> ScheduleSection:
        if self.warmup is None and self.warmup_from is not None:
            raise ValueError("warmup_from is the factor at the start of a warm-up; give its length too, as warmup")
        if self.name is None and self.target is None:
            self.name = "constant"
        return self


class EvaluationSection(ClosedSection):
    """``evaluation``: when and how the run is scored while it trains."""

    every: Count = Field(1, description="number of epochs between evaluations; the last epoch is always evaluated")
    attack: AttackEntry = Field(
        {"pgd": {"steps": 20}},
        description="the attack that robust accuracy is measured with: pgd-20, or pgd: {steps: 20, restarts: 3}",
    )
    best_by: Literal["validation", "test"] = Field(
        "validation", description="split that chooses the best epoch; test is the papers' protocol, and biased"
    )
    train: Flag = Field(False, description="score the training split too, for the robust generalization gap")
    batch_size: Count = Field(500, description="number of examples per forward")
    seed: Seed = Field(0, description="seed of the attack's random starts")


class CheckpointSection(ClosedSection):
    """``checkpoint``: when the run is saved."""

    every: Count = Field(1, description="number of epochs between checkpoints; the last epoch is always saved")
    keep: Count = Field(3, description="number of newest good checkpoints to keep")


class GuardsSection(ClosedSection):
    """``guards``: what a run does when it goes wrong."""

    nonfinite: Literal["stop", "skip"] = Field(
        "stop", description="action on a loss, gradients or weights that are not finite: stop the run, or skip the step"
    )
    max_skipped: Count = Field(20, description="number of consecutive skipped steps that stops the run")
    collapse: Literal["off", "warn", "stop", "roll_back"] = Field(
        "warn", description="action when an evaluation shows that robust accuracy has fallen to chance"
    )
    lr_factor: Annotated[Number, Field(gt=0, le=1)] = Field(
        0.5, description="roll_back: factor on all later learning rates"
    )
    max_rollbacks: Count = Field(3, description="roll_back: number of roll-backs, after which a collapse stops the run")


class TargetsSection(ClosedSection):
    """``targets``: what the authors of a method published; a run does not read it."""

    source: str = Field(description="paper, model and number of runs")
    paper: str | None = Field(
        None, description="short name of the paper of whose tables the config is a row: buttress recipes list --paper"
    )
    tables: list[str] = Field(default_factory=list, description="names of the tables that have the row")
    row: str | None = Field(None, description="name of the row in the paper")
    note: Literal["published, not measured here"] = Field(description="origin of these numbers")
    values: dict[str, float] = Field(description="measure to value, in percent: pgd-20 best, pgd-20 last")


class Config(ClosedSection):
    """The whole configuration."""

    format: Count = Field(FORMAT, description="version of this description of configs")
    name: str = Field(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$", description="name of the run: letters, digits, . _ -"
    )
    data: DataSection
    model: ModelSection
    threat: ThreatSection
    plugins: list[ComponentEntry] = Field(
        min_length=1, description="plugins in the order of their calls: buttress plugins list"
    )
    optimizer: OptimizerSection
    schedule: ScheduleSection = Field(default_factory=ScheduleSection)
    epochs: Annotated[int, Field(ge=1, le=10**6)] | None = Field(
        None, description="number of passes over the training data; a config has either epochs or steps"
    )
    steps: Count | None = Field(
        None, description="number of training steps in the place of epochs; the last epoch may be a part of one"
    )
    evaluation: EvaluationSection = Field(default_factory=EvaluationSection)
    checkpoint: CheckpointSection = Field(default_factory=CheckpointSection)
    loggers: list[ComponentEntry] = Field(
        default_factory=list, description="further receivers of the metrics: buttress plugins list --kind logger"
    )
    guards: GuardsSection = Field(default_factory=GuardsSection)
    seed: Seed = Field(0, description="seed of everything random in the run")
    device: str = Field("auto", description="device of the run: auto, cpu, cuda or cuda:N")
    backend: Literal["auto", "native", "torch"] = Field(
        "auto", description="implementation of the kernels: compiled or pure torch"
    )
    precision: PrecisionValue = Field(
        "float32",
        description="precision of the model's passes: float32, bf16, tf32 (on CUDA), float64; or {attack: bf16, train: "
        "float32, score: float32}. One word leaves the score in float32",
    )
    compile: Literal["off", "model", "graphs"] = Field(
        "off",
        description="compilation of the model's forwards: model (torch.compile; a minute or more at the start), graphs "
        "(CUDA graphs of the attack steps)",
    )
    checks: Literal["auto", "always", "interval", "off"] = Field(
        "auto", description="checks of the values that plugins return: auto is always on the CPU, interval on CUDA"
    )
    deterministic: Flag = Field(
        False, description="use only deterministic algorithms of torch (needed on CUDA for exact resume)"
    )
    plugins_file: str | None = Field(
        None,
        pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,90}\.py$",
        description="a Python file beside the config whose plugins and attack losses the config may name",
    )
    modules: str | None = Field(
        None,
        description="folder of the modules that targets name, relative to the config (default: that of the config)",
    )
    folder: str | None = Field(
        None,
        description="folder in which relative paths of the data are looked up first, relative to the config (default: "
        "that of the config)",
    )
    requires: list[RequirementText] = Field(
        default_factory=list, description="distributions with versions that must be installed: my-defense>=1.2"
    )
    disable: list[str] = Field(
        default_factory=list,
        description="plugins and loggers to leave out: a name, a distribution, or dist:name",
    )
    targets: TargetsSection | None = Field(None, description="published numbers to compare with")
    log_every: Count = Field(
        50, description="number of steps between training records, each of which synchronizes with the device"
    )


def schema() -> dict[str, Any]:
    """The JSON schema of a config (settings of components: ``buttress plugins show NAME --json``)."""
    return Config.model_json_schema()
