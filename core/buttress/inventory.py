"""What is installed: lists from metadata alone, checks in processes of their own, one component described. No torch."""

import inspect
import subprocess
import sys
from textwrap import wrap
from typing import Any

from buttress.hookspecs import EXCLUSIVE
from buttress.registry import GROUPS, HOOKED, Source, check_class, find, load, sources
from buttress.settings import settings_model
from buttress.tables import table

# A plugin that takes longer to import than this is reported as broken; torch itself takes 2 to 10 seconds.
CHECK_SECONDS = 60.0

_CHECK = """
import sys
from buttress.registry import HOOKED, Source, check_class, load
source = Source(*sys.argv[1:6])
component = load(source)
if source.kind in HOOKED:
    check_class(component, source)
"""


def inventory(kind: str | None = None, *, check: bool = False) -> list[dict[str, str]]:
    """One record an installed component: kind, name, distribution, version, entry point, status.

    Args:
        kind: only this kind, or None for all.
        check: import each in a process of its own and add to the status ``ok``, or ``broken`` with the reason.
    """
    rows = []
    for each in [kind] if kind else GROUPS:
        for source in sources(each):
            status = source.status
            if check and status != "incompatible":
                status = ", ".join(word for word in (status, _checked(source)) if word != "listed")
            rows.append(
                {
                    "kind": each,
                    "name": source.name,
                    "distribution": source.distribution,
                    "version": source.version,
                    "entry point": source.target,
                    "status": status,
                }
            )
    return rows


def _checked(source: Source) -> str:
    arguments = [source.kind, source.name, source.target, source.distribution, source.version]
    try:
        done = subprocess.run(
            [sys.executable, "-c", _CHECK, *arguments], capture_output=True, text=True, timeout=CHECK_SECONDS
        )
    except subprocess.TimeoutExpired:
        return f"broken: its import takes more than {CHECK_SECONDS:.0f} s"
    if done.returncode == 0:
        return "ok"
    reason = (done.stderr.strip() or "no output").splitlines()[-1]
    return f"broken: {reason.removeprefix('buttress.errors.PluginError: ')}"


def describe(kind: str, name: str) -> dict[str, Any]:
    """A component's documentation, settings and hooks; imports it.

    Raises:
        PluginError: unknown or broken.
    """
    source = find(kind, name)
    component = load(source)
    if kind in HOOKED:
        check_class(component, source)
    schema = settings_model(
        component, frozenset({"num_classes", "in_channels", "in_features"} if kind == "model" else {"num_classes"})
    ).model_json_schema()
    settings = [
        {
            "name": key,
            "type": _type(entry),
            "default": "required" if key in schema.get("required", ()) else entry.get("default"),
            "meaning": entry.get("description", ""),
        }
        for key, entry in schema.get("properties", {}).items()
    ]
    text = inspect.getdoc(component) or ""
    module = inspect.getmodule(component)
    return {
        "kind": kind,
        "name": source.name,
        "distribution": source.distribution,
        "version": source.version,
        "entry point": source.target,
        "summary": text.split("\n\n")[0],
        "source": inspect.getdoc(module) if module else "",
        "hooks": _hooks(component),
        "settings": settings,
        "schema": schema,
    }


def render(facts: dict[str, Any]) -> str:
    """A description as text."""
    lines = [
        f"{facts['kind']} {facts['name']} ({facts['distribution']} {facts['version']}, {facts['entry point']})",
        facts["summary"],
        "",
        facts["source"] or "",
        "",
    ]
    if facts["hooks"]:
        lines += [f"hooks: {', '.join(facts['hooks'])}", ""]
    if facts["settings"]:
        rows = [[s["name"], s["type"], _plain(s["default"])] for s in facts["settings"]]
        head, rule, *entries = table(["setting", "type", "default"], rows).splitlines()
        lines += [head, rule]
        for entry, setting in zip(entries, facts["settings"], strict=True):
            lines += [entry, *wrap(setting["meaning"], width=100, initial_indent="    ", subsequent_indent="    ")]
    else:
        lines.append("no settings")
    return "\n".join(lines)


def _hooks(component: Any) -> list[str]:
    found = []
    for name in dir(component):
        options = getattr(inspect.getattr_static(component, name), "buttress_impl", None)
        if options:
            hook = options.get("specname") or name
            kind = "wraps" if options["wrapper"] else ("provides" if hook in EXCLUSIVE else "joins")
            found.append(f"{hook} ({kind})")
    return found


def _type(entry: dict[str, Any]) -> str:
    if "enum" in entry:
        return " | ".join(map(str, entry["enum"]))
    if "const" in entry:
        return str(entry["const"])
    if "anyOf" in entry:
        return " | ".join(_type(each) for each in entry["anyOf"])
    kind = entry.get("type", "any")
    text = " | ".join(kind) if isinstance(kind, list) else str(kind)
    bounds = (("minimum", ">="), ("exclusiveMinimum", ">"), ("maximum", "<="), ("exclusiveMaximum", "<"))
    limits = [f"{sign} {entry[key]}" for key, sign in bounds if key in entry]
    return " ".join([text, *limits])


def _plain(value: object) -> str:
    if value is None:
        return "null"
    return str(value).lower() if isinstance(value, bool) else str(value)
