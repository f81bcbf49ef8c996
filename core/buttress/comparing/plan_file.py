"""The plan of a comparison over all commands that were given for it, in ``plan.json`` in its folder."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from pydantic import TypeAdapter

from buttress.comparing.jobs import Job, without_idle_keys
from buttress.comparing.sweep import Variant
from buttress.components.plugins_file import read_plugins_file
from buttress.config.file import dump_config
from buttress.config.yaml_source import read_yaml
from buttress.errors import CheckpointError, ConfigError, extended
from buttress.scoring.attacks import attack_entry, load_attack
from buttress.storage.names import expect_plain_name
from buttress.storage.results import read_object
from buttress.storage.seals import write_sealed
from buttress.storage.shapes import Count, Shape


class _Variant(Shape):
    method: str
    config: str
    overrides: list[str]
    settings: list[str]


class _Evaluation(Shape):
    attack: dict[str, Any]
    best_by: Literal["validation", "test"]
    seed: int


class _Member(Shape):
    variant: _Variant
    digest: str
    evaluation: _Evaluation
    seeds: list[Count]


class _Plan(Shape):
    members: list[_Member]
    attacks: list[str]
    baseline: str | None


_PLAN = TypeAdapter(_Plan)


@dataclass(frozen=True)
class Member:
    """A variant of a comparison, checked.

    Args:
        variant: variant as it was given first.
        digest: sha256 of its config, every default filled in, and its file of plugins: one for ``k2=10`` and
            ``k2=10.0``.
        evaluation: that section of its config.
        seeds: at which it has been asked for.
    """

    variant: Variant
    digest: str
    evaluation: dict[str, Any]
    seeds: tuple[int, ...]

    @property
    def label(self) -> str:
        return self.variant.label

    @property
    def key(self) -> tuple[str, str]:
        """Equal for variants that are one."""
        return self.variant.method, self.digest


@dataclass(frozen=True)
class Plan:
    """Members, attacks (as texts) and the baseline that was asked for."""

    members: tuple[Member, ...] = ()
    attacks: tuple[str, ...] = ()
    baseline: str | None = None

    def joined(self, other: Plan) -> Plan:
        """This plan with all of another one; members that only this one has stay, and keep their rows."""
        members = {member.key: member for member in self.members}
        for member in other.members:
            before = members.get(member.key, member)
            members[member.key] = replace(before, seeds=tuple(dict.fromkeys([*before.seeds, *member.seeds])))
        attacks = {attack_key(text): text for text in reversed([*self.attacks, *other.attacks])}  # the first text wins
        return Plan(tuple(members.values()), tuple(reversed(attacks.values())), other.baseline or self.baseline)

    def attack_like(self, text: str) -> str:
        """How the plan writes an attack."""
        return next(each for each in self.attacks if attack_key(each) == attack_key(text))

    def member_like(self, member: Member) -> Member:
        """The plan's own member with that method and that config."""
        return next(each for each in self.members if each.key == member.key)

    def without(self, members: Sequence[Member]) -> Plan:
        """The plan without some of its members."""
        return replace(self, members=tuple(each for each in self.members if each not in members))


def variant_digest(resolved: Mapping[str, Any], plugins_text: str | None) -> str:
    """sha256 that identifies a variant, however its settings are written and whatever its seed is."""
    config = {key: value for key, value in without_idle_keys(resolved).items() if key != "seed"}
    return sha256(json.dumps([config, plugins_text], sort_keys=True, default=str).encode()).hexdigest()


def expect_different(members: Sequence[Member]) -> None:
    """Refuse two variants of one method that are the same config.

    Raises:
        ConfigError: ``rwp.k2=10`` and ``rwp.k2=10.0``.
    """
    first: dict[tuple[str, str], str] = {}
    for member in members:
        other = first.setdefault(member.key, member.label)
        if other != member.label:
            raise ConfigError(f"{other!r} and {member.label!r} are the same config; leave one of them out")


def read_plan(folder: Path) -> Plan:
    """The plan of the comparison in ``folder``; empty where there is none yet.

    Raises:
        CheckpointError: it is damaged.
    """
    path = folder / "plan.json"
    if not path.exists():
        return Plan()
    try:
        content = read_object(path, _PLAN, sealed=True).body
    except CheckpointError as problem:
        raise extended(
            problem, "; delete it: the runs stay, and the table has those that the next command asks for"
        ) from None
    members = tuple(
        _member(each["variant"], each["digest"], each["evaluation"], each["seeds"]) for each in content["members"]
    )
    return Plan(members, tuple(content["attacks"]), content["baseline"])


def write_plan(folder: Path, plan: Plan) -> None:
    """Write the plan, sealed."""
    members = [{**asdict(each), "variant": _plain(each.variant)} for each in plan.members]
    write_sealed(folder / "plan.json", {**asdict(plan), "members": members})


def kept_jobs(folder: Path, plan: Plan, requested: Sequence[Job], say: Callable[[str], None]) -> list[Job]:
    """The existing runs of the plan beside the requested ones, finished or not; ``say`` names those left out."""
    paths, kept = {job.path for job in requested}, []
    for member in plan.members:
        for seed in member.seeds:
            run = folder / member.variant.run(seed)
            if str(run) in paths or not (run / "config.yaml").is_file():
                continue
            if _holds(run, member, seed):
                text = (run / "config.yaml").read_text(encoding="utf-8")
                kept.append(Job(member.label, seed, str(run), text, ()))
            else:
                say(f"left out of the table: {run} holds another run than {member.label}, seed {seed}")
    return kept


def _holds(run: Path, member: Member, seed: int) -> bool:
    """Whether the run in a folder is that of a member at a seed, by its config and its file of plugins."""
    config = read_yaml(run / "config.yaml").value
    name = config.get("plugins_file")
    text = read_plugins_file(run / expect_plain_name(name, run / "config.yaml")).text if name else None
    return config.get("seed") == seed and variant_digest(config, text) == member.digest


def attack_key(text: str) -> str:
    """Equal for attacks that are one in other words: ``pgd-20`` and ``pgd: {steps: 20}``.

    Raises:
        PluginError, ConfigError: unknown, or wrong settings.
    """
    attack = load_attack(attack_entry(text))
    return dump_config({attack.label: dict(attack.settings)})


def _plain(variant: Variant) -> dict[str, Any]:
    return {**asdict(variant), "config": str(variant.config)}


def _member(variant: Mapping[str, Any], digest: str, evaluation: dict[str, Any], seeds: Sequence[int]) -> Member:
    lists = {key: tuple(variant[key]) for key in ("overrides", "settings")}
    return Member(Variant(variant["method"], Path(variant["config"]), **lists), digest, evaluation, tuple(seeds))
