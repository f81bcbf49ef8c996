"""The command line: parse, call, print. Exit codes: 0 done, 1 failed at work, 2 wrong input."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from buttress import __version__
from buttress.errors import ButtressError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the entry point of the ``buttress`` command."""
    parser = _parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(word.startswith("-") for word in rest)):
        hint = "; a setting is given without dashes: epochs=4" if hasattr(options, "overrides") else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:
        options.overrides += rest  # overrides that follow an option: argparse collects only the first group
    return exit_code_of(lambda: _say(options.call(options)))


def exit_code_of(call: Callable[[], object]) -> int:
    """Run ``call``; an error of buttress becomes one message and its exit code."""
    try:
        call()
        return 0
    except ButtressError as problem:
        print(f"buttress: {problem}", file=sys.stderr)  # noqa: T201
        return problem.exit_code
    except KeyboardInterrupt:
        print("buttress: stopped", file=sys.stderr)  # noqa: T201
        return 1
    except BrokenPipeError:  # the reader of our output has gone: `buttress plugins list | head`
        sys.stderr.close()
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="buttress",
        description="Adversarial training with plugins, and the methods that cure robust overfitting.",
        epilog="exit codes: 0 done, 1 failed at work, 2 wrong input",
    )
    parser.add_argument("--version", action="version", version=f"buttress {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = _verb(verbs, "train", _train, "train what a config describes")
    _config_arguments(train)
    train.add_argument("--dry-run", action="store_true", help="check everything, forecast the cost, write nothing")
    train.add_argument("--run", metavar="NAME", help="name of the run folder (default: the time)")
    train.add_argument("--runs", metavar="FOLDER", type=Path, default=Path("runs"), help="where runs live (runs)")

    resume = _verb(verbs, "resume", _resume, "continue a run at its newest good checkpoint")
    resume.add_argument("run", type=Path, metavar="RUN", help="run folder")

    score = _verb(verbs, "evaluate", _evaluate, "measure the accuracy of a run's weights under attack")
    score.add_argument("run", type=Path, metavar="RUN", help="run folder")
    score.add_argument(
        "--attack",
        action="append",
        metavar="ATTACK",
        help="clean, fgsm, pgd-K, or YAML like 'pgd: {steps: 50, restarts: 3}'; may be repeated "
        "(default: fgsm and the attack of the run's config)",
    )
    score.add_argument("--track", default="live", help="live, or an ensemble's name (live)")
    score.add_argument("--checkpoint", choices=["best", "last"], default="best", help="which weights (best)")
    score.add_argument("--split", choices=["test", "validation", "train"], default="test", help="of the data (test)")
    _json_flag(score)

    comparison = _verb(verbs, "compare", _compare, "train configs x swept settings x seeds; one table, one picture")
    comparison.add_argument(
        "overrides", nargs="+", metavar="CONFIG|key=a,b,c", help="YAML files, and overrides; several values are a sweep"
    )
    comparison.add_argument("--seeds", default="3", help="a number of seeds, or seeds like 4,7 (3)")
    comparison.add_argument(
        "--jobs", type=int, default=1, metavar="N", help="runs at once, each with its share of the CPUs as threads (1)"
    )
    comparison.add_argument("--name", default="compare", help="of the comparison, and of its folder (compare)")
    comparison.add_argument("--runs", metavar="FOLDER", type=Path, default=Path("runs"), help="where runs live (runs)")
    comparison.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="ATTACK",
        help="also attack best and last weights of every track with it, as in evaluate; may be repeated",
    )
    comparison.add_argument(
        "--baseline", metavar="METHOD", help="a config's name: what paired differences refer to (the first config)"
    )

    union = _verb(verbs, "ensemble", _ensemble, "make one weights file of several, element by element")
    union.add_argument("files", nargs="+", type=Path, metavar="FILE", help="safetensors files of one model")
    union.add_argument("--output", type=Path, required=True, metavar="FILE", help="safetensors file to write")
    union.add_argument("--method", choices=["median", "mean", "trimmed-mean"], default="median", help="(median)")
    union.add_argument(
        "--even", choices=["lower", "upper", "mean"], help="the median of an even number of files: which middle (lower)"
    )
    union.add_argument(
        "--trim", type=float, metavar="SHARE", help="of the files that the trimmed mean leaves out at each end (0.1)"
    )
    union.add_argument(
        "--reestimate",
        type=Path,
        metavar="CONFIG|RUN",
        help="measure batch-norm statistics afresh, in the model and on the training inputs of a config or a run",
    )

    plugins = verbs.add_parser("plugins", help="the installed plugins").add_subparsers(required=True, metavar="VERB")
    listing = _verb(plugins, "list", _plugins_list, "what is installed, from metadata alone")
    listing.add_argument("--kind", choices=["plugin", "attack", "model", "dataset"], help="only this kind")
    listing.add_argument("--hook", metavar="HOOK", help="only plugins with this hook; imports them, as --check does")
    listing.add_argument(
        "--check", action="store_true", help="also import each, apart from this process: status, hooks, paper, cost"
    )
    _json_flag(listing)
    show = _verb(plugins, "show", _plugins_show, "a plugin's settings, hooks and source")
    show.add_argument("name", help="as in a config")
    show.add_argument("--kind", choices=["plugin", "attack", "model", "dataset"], default="plugin")
    _json_flag(show)
    check = _verb(plugins, "check", _plugins_check, "examine which promises a plugin keeps")
    check.add_argument("target", metavar="NAME|PATH", help="an installed plugin, a .py file, or a package's folder")
    check.add_argument("overrides", nargs="*", metavar="key=value", help="settings to examine it with")
    _json_flag(check)
    new = _verb(plugins, "new", _plugins_new, "make a package with a working plugin and its tests")
    new.add_argument("name", metavar="NAME", help="of the plugin in configs")
    new.add_argument(
        "--hook",
        action="append",
        default=[],
        metavar="HOOK",
        help="with an example of it; may be repeated (adjust_grads)",
    )
    new.add_argument("--output", type=Path, metavar="FOLDER", help="folder to make (buttress-NAME)")

    config = verbs.add_parser("config", help="look at configs").add_subparsers(required=True, metavar="VERB")
    config_show = _verb(config, "show", _config_show, "the config with every default filled in")
    _config_arguments(config_show)
    _json_flag(config_show)
    _config_arguments(_verb(config, "validate", _config_validate, "check a config, its plugins, data and model"))
    _verb(config, "schema", _config_schema, "the JSON schema of a config")

    _json_flag(_verb(verbs, "doctor", _doctor, "examine the installation"))
    return parser


def _verb(
    verbs: Any, name: str, call: Callable[[argparse.Namespace], str], description: str
) -> argparse.ArgumentParser:
    parser: argparse.ArgumentParser = verbs.add_parser(
        name, help=description, description=description.capitalize() + "."
    )
    parser.set_defaults(call=call)
    return parser


def _config_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("config", type=Path, metavar="CONFIG", help="YAML file")
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="epochs=10, data.batch_size=64, pgd.steps=5")


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _say(text: str) -> None:
    if text:
        print(text)  # noqa: T201
        sys.stdout.flush()


def _as_json(value: object) -> str:
    return json.dumps(value, indent=1, default=str)


# Verbs. Imports are inside, so that listing plugins and printing help load no torch.


def _train(options: argparse.Namespace) -> str:
    from buttress.config import load_config
    from buttress.launch import launch

    launch(load_config(options.config, options.overrides), options.runs, options.run, dry_run=options.dry_run)
    return ""


def _resume(options: argparse.Namespace) -> str:
    from buttress.launch import continue_run

    continue_run(options.run)
    return ""


def _evaluate(options: argparse.Namespace) -> str:
    from buttress.launch import evaluate_run
    from buttress.tables import table

    result = evaluate_run(options.run, options.attack, options.track, options.checkpoint, options.split)
    if options.json:
        return _as_json(result)
    rows = [
        [row["attack"], f"{100 * row['accuracy']:.1f}", f"{100 * row['low']:.1f} to {100 * row['high']:.1f}", row["n"]]
        for row in result["attacks"]
    ]
    return (
        f"{result['track']} weights, {result['checkpoint']} (epoch {result['epoch'] + 1}), {result['split']} split, "
        f"{result['threat']}, seed {result['seed']}\n\n"
        f"{table(['attack', 'accuracy %', '95 % interval', 'n'], rows)}\n\nwritten to {result['file']}"
    )


def _compare(options: argparse.Namespace) -> str:
    from buttress.compare import compare
    from buttress.errors import ConfigError, WorkError
    from buttress.sweep import plan, seeds_of

    configs = [Path(word) for word in options.overrides if "=" not in word]
    if not configs:
        raise ConfigError("compare: expected at least one CONFIG, a YAML file, beside key=value")
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: expected a number >= 1")
    found = compare(
        plan(configs, [word for word in options.overrides if "=" in word]),
        seeds_of(options.seeds),
        options.runs,
        options.name,
        attacks=options.attack,
        jobs=options.jobs,
        baseline=options.baseline,
        say=_say,
    )
    if found.failed:
        runs = "1 run" if len(found.failed) == 1 else f"{len(found.failed)} runs"
        raise WorkError(f"{runs} failed; the table has the others; give the same command again to try once more")
    return ""


def _ensemble(options: argparse.Namespace) -> str:
    from buttress.ensemble import ensemble

    made = ensemble(
        options.files,
        options.output,
        method=options.method,
        even=options.even,
        trim=options.trim,
        source=options.reestimate,
    )
    lines = [f"{options.method} of {made.facts['n']} files, written to {options.output}"]
    if options.reestimate is not None:
        lines.append(f"batch norm re-estimated on the training inputs of {options.reestimate}")
    return "\n".join(lines + [f"note: {note}" for note in made.notes])


def _plugins_list(options: argparse.Namespace) -> str:
    from buttress.inventory import inventory
    from buttress.tables import table

    rows = inventory(options.kind, check=options.check, hook=options.hook)
    if options.json:
        return _as_json(rows)
    return table(list(rows[0]) if rows else ["name"], [list(row.values()) for row in rows])


def _plugins_show(options: argparse.Namespace) -> str:
    from buttress.inventory import describe, render

    facts = describe(options.kind, options.name)
    return _as_json(facts) if options.json else render(facts)


def _plugins_check(options: argparse.Namespace) -> str:
    from buttress.errors import WorkError
    from buttress.targets import subjects_of
    from buttress.testing import examine

    reports = [examine(subject) for subject in subjects_of(options.target, options.overrides)]
    _say(_as_json([report.to_json() for report in reports]) if options.json else "\n\n".join(map(str, reports)))
    broken = [f"{report.plugin} breaks {result.name}" for report in reports for result in report.broken]
    if broken:
        raise WorkError(f"{options.target}: {', '.join(broken)}")
    return ""


def _plugins_new(options: argparse.Namespace) -> str:
    from buttress.scaffold import new_plugin

    folder = new_plugin(options.name, options.hook, options.output)
    return (
        f"made {folder}; next:\n\n  cd {folder}\n  pip install --editable '.[test]'\n  pytest\n"
        "  buttress train config.yaml"
    )


def _config_show(options: argparse.Namespace) -> str:
    from buttress.build import check_config
    from buttress.config import dump_config, load_config

    resolved = check_config(load_config(options.config, options.overrides)).resolved
    return _as_json(resolved) if options.json else dump_config(resolved).rstrip()


def _config_validate(options: argparse.Namespace) -> str:
    from buttress.build import check_config
    from buttress.config import load_config

    check_config(load_config(options.config, options.overrides))
    return f"{options.config}: valid"


def _config_schema(options: argparse.Namespace) -> str:
    from buttress.config import schema

    return _as_json(schema())


def _doctor(options: argparse.Namespace) -> str:
    from buttress.doctor import examine, render

    facts = examine()
    return _as_json(facts) if options.json else render(facts)
