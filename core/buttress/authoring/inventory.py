"""List installed components from metadata, check them in processes of their own, and describe one. Loads no torch."""

import inspect
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from types import MappingProxyType
from typing import Any

from pydantic import BaseModel

from buttress.components.installed import UnreadableDistribution, broken_distributions
from buttress.components.members import Marked, hooks_in, marked
from buttress.components.per_epoch import TITLE
from buttress.components.plain import plain
from buttress.components.plugin_class import check_class
from buttress.components.signature import settings_model
from buttress.components.source_hooks import hooks_in_source
from buttress.components.sources import GROUPS, HOOKED, Source, find, find_any, kinds_of, load, sources
from buttress.errors import PluginError, nearest
from buttress.hookspecs import EXCLUSIVE, HOOKS, TITLES
from buttress.launching.chosen import check_launcher
from buttress.processes import Channel, run_apart

# A distribution whose components take longer than this to import is examined one by one, and each that still does is
# reported as broken; torch itself takes 2 to 10 seconds.
CHECK_SECONDS = 60.0

ComponentRecord = dict[str, Any]


def inventory(kind: str | None = None, *, check: bool = False, hook: str | None = None) -> list[ComponentRecord]:
    """One record an installed component: kind, name, distribution, version, entry point, status, hooks.

    A distribution whose metadata cannot be read has a record too, with the status ``broken``. The hooks are read from
    source texts; they are empty where these do not show them.

    Args:
        kind: kind of components, or None for all.
        check: whether to import each, in a process of its distribution's own. The status then says ``ok``, or
            ``broken`` with the reason, the hooks are those of the import, and paper and cost are added.
        hook: hook that the components have, or None for all. Components whose hooks are not known are listed too, since
            they may have it.

    Raises:
        PluginError: there is no such hook.
    """
    if hook is not None and hook not in HOOKS:
        raise PluginError(f"{hook!r} is not a hook{nearest(hook, HOOKS)}")
    components = [source for each in ([kind] if kind else GROUPS) for source in sources(each)]
    rows = [
        {
            "kind": source.kind,
            "name": source.name,
            "distribution": source.distribution,
            "version": source.version,
            "entry point": source.target,
            "status": source.status,
            "hooks": "" if check else _hooks_shown(source),
        }
        for source in components
    ]
    unread = [_record_of(broken) for broken in broken_distributions(GROUPS.values())]
    if check:
        checked = _checked([source for source in components if source.status not in ("incompatible", "disabled")])
        for row, source in zip(rows, components, strict=True):
            facts = checked.get(source, {})
            row["status"] = _status(source, facts)
            row |= {key: facts.get(key, "") for key in ("hooks", "paper", "cost")}
        unread = [{**row, "paper": "", "cost": ""} for row in unread]
    chosen = [row for row in rows if hook is None or hook in row["hooks"].split(", ") or _may_have_hooks(row)]
    return chosen + unread


def _hooks_shown(source: Source) -> str:
    """The hooks of a component as its source text shows them; empty where it does not."""
    shown = hooks_in_source(source.target) if source.kind in HOOKED else None
    return _listed(shown or ())


def _listed(hooks: Collection[str]) -> str:
    """Hooks with commas, in the order of their titles."""
    return ", ".join(hook for hook in TITLES if hook in hooks)


def _record_of(broken: UnreadableDistribution) -> ComponentRecord:
    """A distribution that cannot be read, in the place of the components that it may have."""
    return {
        "kind": "unknown",
        "name": "unknown",
        "distribution": Path(broken.path).name,
        "version": "unknown",
        "entry point": broken.path,
        "status": f"broken: {broken.problem}",
        "hooks": "",
    }


def _status(source: Source, facts: Mapping[str, str]) -> str:
    """The status from metadata, where that is more than ``listed``, and from the import."""
    return ", ".join(word for word in (source.status, facts.get("status")) if word and word != "listed")


def _may_have_hooks(row: ComponentRecord) -> bool:
    """Whether it is of a kind with hooks, and nobody knows which."""
    return row["kind"] in HOOKED and not row["hooks"]


def facts_of(source: Source) -> dict[str, str]:
    """Facts about a component that only an import shows."""
    try:
        component = load(source)
        if source.kind in HOOKED:
            check_class(component, source)
        if source.kind == "launcher":
            check_launcher(component, str(source))
        settings_model(component)
    except PluginError as problem:
        return {"status": f"broken: {problem}"}
    return {
        "status": "ok",
        "hooks": _listed(hooks_in(component)) if source.kind in HOOKED else "",
        "paper": paper(component),
        "cost": _cost(component, source),
    }


def paper(component: Any) -> str:
    """Where the method was published: the first reference after ``Source:`` in the docstring of the component's module.

    It ends at a stop, semicolon or colon that is followed by a space; those of a title and of ``eq. 2`` are part of it.
    """
    module = inspect.getmodule(component)
    text = " ".join((inspect.getdoc(module) or "").split()) if module else ""
    match = re.search(r'Sources?: (?:as in )?((?:\b(?:al|eq)\.|"[^"]*"|[^.;:]|[.;:](?=\S))*)', text)
    return match[1].strip() if match else ""


def _cost(component: Any, source: Source) -> str:
    """The cost of a component with its default settings, or why it is not known; empty for models and data sets.

    The cost of a plugin is the passes that it adds to a training step, counted on the bench. That of an attack of
    evaluations is the passes of one batch: the most forwards, where it gives them itself, else counted.
    """
    if source.kind not in HOOKED:
        return ""
    if source.kind == "logger":
        return "none: a logger takes no part in a step"
    from buttress.testing.passes import added_by
    from buttress.testing.subject import EXAMPLES, Subject

    try:
        subject = Subject(component, None, source.name, source)
        if source.kind == "plugin":
            return f"{added_by(subject)} a step"
        if forwards := subject.plugin().traits.forwards:
            return f"at most {forwards(EXAMPLES):,} forwards a batch"
        return f"{added_by(subject)} a batch"
    except Exception as problem:
        return f"not known ({'; '.join(str(problem).splitlines())})"


def _checked(components: Sequence[Source]) -> dict[Source, dict[str, str]]:
    """The facts of every component. One process a distribution; where that is lost, one for each that it left out."""
    facts: dict[Source, dict[str, str]] = {}
    for distribution in dict.fromkeys(source.distribution for source in components):
        together = [source for source in components if source.distribution == distribution]
        facts |= dict(zip(together, _examined(together)[0], strict=False))
        for source in together:
            if source not in facts:
                answers, problem = _examined([source])
                facts[source] = answers[0] if answers else {"status": f"broken: {problem}"}
    return facts


def _examined(components: Sequence[Source]) -> tuple[list[dict[str, str]], str]:
    """The answers of a process that examines ``components`` one after the other, and what became of it."""
    outcome = run_apart(send_facts, [asdict(source) for source in components], CHECK_SECONDS, quiet=True)
    if outcome.end is None:
        return outcome.answers, f"its import takes more than {CHECK_SECONDS:.0f} s"
    return outcome.answers, _last_words(outcome.errors) or f"{outcome.end} without a word"


def send_facts(component: Mapping[str, Any], channel: Channel) -> None:
    """Answer with the facts of a component; runs in a process that may be lost."""
    channel.send(facts_of(Source(**component)))


def _last_words(stderr: str) -> str:
    """The last line of a process's standard error; after a traceback all lines of the exception, joined."""
    lines = stderr.rstrip().splitlines()
    quoted = [number for number, line in enumerate(lines) if line.startswith((" ", "Traceback "))]
    return "; ".join(line for line in lines[quoted[-1] + 1 if quoted else -1 :] if line)


def description_of(kind: str | None, name: str, *, cost: bool = True, check: bool = False) -> dict[str, Any]:
    """A component's documentation, settings and hooks; imports it.

    Args:
        kind: kind of component; by default the first of ``GROUPS`` in which something has that name.
        name: name in a config.
        cost: whether to count the passes that a plugin adds to a step, which takes training steps.
        check: whether to import it in a process of its own first, for its ``status``; a broken one has nothing else.

    Raises:
        PluginError: unknown; broken, unless ``check``.
    """
    source = find(kind, name) if kind else find_any(name)
    facts: dict[str, Any] = {
        "kind": source.kind,
        "name": source.name,
        "other kinds": [other for other in kinds_of(source.name) if other != source.kind],
        "distribution": source.distribution,
        "version": source.version,
        "entry point": source.target,
    }
    if check:
        facts["status"] = _status(source, _checked([source])[source])
        if "broken" in facts["status"]:
            return facts
    component = load(source)
    if source.kind in HOOKED:
        check_class(component, source)
    given = {"num_classes", "in_channels", "in_features"} if source.kind == "model" else {"num_classes"}
    model = settings_model(component, frozenset(given))
    text = inspect.getdoc(component) or ""
    module = inspect.getmodule(component)
    return {
        **facts,
        "summary": text.split("\n\n")[0],
        "source": inspect.getdoc(module) if module else "",
        "paper": paper(component),
        "hooks": _hooks(component),
        "cost": _cost(component, source) if cost else "",
        "settings": keys_of(model),
        "schema": model.model_json_schema(),
    }


def keys_of(model: type[BaseModel]) -> list[ComponentRecord]:
    """One record a key of ``model``: name, type, default (``required`` without one), meaning."""
    schema = model.model_json_schema()
    return [
        {
            "name": key,
            "type": _type(entry, schema.get("$defs", {})),
            "default": "required" if key in schema.get("required", ()) else _default(model, key, entry),
            "meaning": entry.get("description", ""),
        }
        for key, entry in schema.get("properties", {}).items()
    ]


def _default(model: type[BaseModel], key: str, entry: dict[str, Any]) -> object:
    """As JSON has it; a default that is made anew for each instance is not there."""
    default = model.model_fields[key].get_default(call_default_factory=True)
    return entry["default"] if "default" in entry else plain(default)


def _hooks(component: Any) -> list[str]:
    def how(each: Marked) -> str:
        return "wraps" if each.options["wrapper"] else "provides" if each.hook in EXCLUSIVE else "joins"

    return [f"{each.hook} ({how(each)})" for each in marked(component)] if inspect.isclass(component) else []


def _type(entry: Mapping[str, Any], definitions: Mapping[str, Any] = MappingProxyType({})) -> str:
    """A schema in words; ``definitions`` are those that it refers to."""
    if "$ref" in entry:
        return _type(definitions[entry["$ref"].rpartition("/")[2]], definitions)
    if "enum" in entry:
        return " | ".join(map(str, entry["enum"]))
    if "const" in entry:
        return str(entry["const"])
    for members in ("anyOf", "oneOf"):
        if members in entry:
            return " | ".join(_type(each, definitions) for each in entry[members])
    if entry.get("title") == TITLE:
        return TITLE
    if "prefixItems" in entry:
        return f"list [{', '.join(_type(each, definitions) for each in entry['prefixItems'])}]"
    if entry.get("type") == "array" and "items" in entry:
        return f"list of {_type(entry['items'], definitions)}"
    if entry.get("format") in ("path", "file-path", "directory-path"):
        return "path"
    bounds = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    limits = ", ".join(f"{sign} {entry[key]}" for key, sign in bounds if key in entry)
    kind = entry.get("type", "any")
    kinds = kind if isinstance(kind, list) else [kind]
    return " | ".join(f"{each} {limits}".strip() if each in ("number", "integer") else each for each in kinds)
