"""The command line: parse, call, print. Exit codes: 0 done, 1 failed at work, 2 wrong input."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buttress._version import __version__
from buttress.components.metadata import pass_over_unreadable
from buttress.console.output import Exact, answer, complain, say
from buttress.console.parser import Parser, whole_number
from buttress.errors import TrustError
from buttress.storage.user_path import user_path

if TYPE_CHECKING:
    from buttress.console.reporter import Reporter

HOOKED = ("plugin", "attack", "logger")
KINDS = (*HOOKED, "model", "dataset", "schedule")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one verb; the entry point of the ``buttress`` command."""
    pass_over_unreadable()
    parser = make_parser()
    options, rest = parser.parse_known_args(arguments)
    if rest and (not hasattr(options, "overrides") or any(word.startswith("-") for word in rest)):
        hint = "; a setting is given without dashes: epochs=4" if hasattr(options, "overrides") else ""
        parser.error(f"unrecognized arguments: {' '.join(rest)}{hint}")
    if rest:
        options.overrides += rest  # overrides that follow an option: argparse collects only the first group
    if options.call in _NEED_TORCH and "torch" not in sys.modules:
        complain("importing torch ...")
    return answer(lambda: options.call(options))


def make_parser() -> argparse.ArgumentParser:
    """All verbs and their options; the reference of the command line is made of it."""
    parser = Parser(
        prog="buttress",
        description="Adversarial training with plugins, and the methods against robust overfitting.",
        epilog="exit codes: 0 done, 1 failed at work, 2 wrong input",
    )
    parser.add_argument("--version", action="version", version=f"buttress {__version__}")
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="VERB")

    train = _verb(verbs, "train", _train, "train what a config describes")
    _config_arguments(train)
    train.add_argument("--dry-run", action="store_true", help="check everything, forecast the cost, write nothing")
    train.add_argument("--run", metavar="NAME", help="name of the run folder (default: the time)")
    train.add_argument("--runs", metavar="FOLDER", type=user_path, default=Path("runs"), help="where runs live (runs)")
    _trust_flag(train, "a config in a run folder")

    resume = _verb(verbs, "resume", _resume, "continue a run at its newest good checkpoint")
    resume.add_argument("run", type=user_path, metavar="RUN", help="run folder")
    resume.add_argument(
        "--accept-changes",
        action="store_true",
        help="go on with other versions of the run's plugins than it was started with",
    )
    _trust_flag(resume)

    again = _verb(verbs, "reproduce", _reproduce, "run a run's config again and say what came out differently")
    again.add_argument("run", type=user_path, metavar="RUN", help="run folder")
    again.add_argument("--run", dest="name", metavar="NAME", help="name of the new run folder (default: the time)")
    again.add_argument("--runs", metavar="FOLDER", type=user_path, default=Path("runs"), help="where runs live (runs)")
    _trust_flag(again)

    score = _verb(verbs, "evaluate", _evaluate, "measure the accuracy of weights under attack")
    score.add_argument("subject", type=user_path, metavar="RUN|FILE", help="run folder, or file of weights")
    score.add_argument(
        "overrides",
        nargs="*",
        metavar="key=value",
        help="threat.eps=4/255, evaluation.seed=1; of a FILE: model.name=...",
    )
    score.add_argument("--config", type=user_path, help="YAML file that names model, data and threat of a FILE")
    score.add_argument(
        "--attack",
        action="append",
        default=[],
        metavar="ATTACK",
        help="clean, fgsm, pgd-K, or YAML like 'pgd: {steps: 50, restarts: 3}'; may be repeated, and each attacks what "
        "is left (default: fgsm and the attack of the config)",
    )
    score.add_argument("--track", help="of a RUN: live, or an ensemble's name (live)")
    score.add_argument("--checkpoint", metavar="WHICH", help="of a RUN: best, last, or a file of weights (best)")
    score.add_argument("--key", metavar="KEY", help="of a FILE that holds several sets of weights: state_dict, ema")
    score.add_argument("--split", choices=["test", "validation", "train"], default="test", help="of the data (test)")
    score.add_argument(
        "--examples",
        type=whole_number,
        metavar="N",
        help="number of examples, always the same ones for a split and N (all)",
    )
    score.add_argument("--each", action="store_true", help="let each attack see every example, also wrong ones")
    score.add_argument(
        "--output", type=user_path, metavar="FOLDER", help="of the results (eval/ in the run, or by the file)"
    )
    _trust_flag(score)
    _json_flag(score)

    doctor = _verb(verbs, "audit", _audit, "look for what would make a run's robustness numbers meaningless")
    doctor.add_argument("run", type=user_path, metavar="RUN", help="run folder")
    _weights_arguments(doctor)
    doctor.add_argument(
        "--examples",
        type=whole_number,
        default=200,
        metavar="N",
        help="number of test examples to look at, the same as in evaluate (200)",
    )
    _trust_flag(doctor)
    _json_flag(doctor)

    export = _verb(verbs, "export", _export, "write a run's model, with its card, for people without buttress")
    export.add_argument("run", type=user_path, metavar="RUN", help="run folder")
    _weights_arguments(export)
    export.add_argument("--output", type=user_path, required=True, metavar="FOLDER", help="to be made")
    _trust_flag(export)
    _json_flag(export)

    comparison = _verb(verbs, "compare", _compare, "train configs x swept settings x seeds; one table, one picture")
    comparison.add_argument(
        "overrides",
        nargs="+",
        metavar="CONFIG|key=a,b,c",
        help="YAML files or recipes, and overrides; several values are a sweep",
    )
    comparison.add_argument("--seeds", metavar="N|A,B", help="number of seeds, or seeds like 4,7; or seed=7 (3)")
    comparison.add_argument(
        "--jobs",
        type=whole_number,
        default=1,
        metavar="N",
        help="runs at once, each with its share of the CPUs as threads (1)",
    )
    comparison.add_argument(
        "--only", default="1/1", metavar="I/N", help="train the I-th of N parts of the runs, for several machines (1/1)"
    )
    comparison.add_argument("--name", default="compare", help="of the comparison, and of its folder (compare)")
    comparison.add_argument(
        "--runs", metavar="FOLDER", type=user_path, default=Path("runs"), help="where runs live (runs)"
    )
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

    _trust_flag(comparison, "a config in a run folder")

    union = _verb(verbs, "ensemble", _ensemble, "make one weights file of several, element by element")
    union.add_argument("files", nargs="+", type=user_path, metavar="FILE", help="safetensors files of one model")
    union.add_argument("--output", type=user_path, required=True, metavar="FILE", help="safetensors file to write")
    union.add_argument("--method", choices=["median", "mean", "trimmed-mean"], default="median", help="(median)")
    union.add_argument(
        "--even", choices=["lower", "upper", "mean"], help="the median of an even number of files: which middle (lower)"
    )
    union.add_argument(
        "--trim", type=float, metavar="SHARE", help="of the files that the trimmed mean leaves out at each end (0.1)"
    )
    union.add_argument(
        "--reestimate",
        type=user_path,
        metavar="CONFIG|RUN",
        help="measure batch-norm statistics afresh, in the model and on the training inputs of a config or a run",
    )

    _trust_flag(union)

    diagnosis = _verb(verbs, "analyze", _analyze, "look into a run: gap, landscapes, weights, losses, label noise")
    diagnosis.add_argument("runs", type=user_path, nargs="+", metavar="RUN", help="run folder")
    diagnosis.add_argument(
        "--part",
        action="append",
        default=[],
        metavar="PART",
        help="gap, landscape, surface, histogram, loss_groups, label_noise, distance, classes or images; may be "
        "repeated (all)",
    )
    diagnosis.add_argument(
        "--track",
        action="append",
        default=[],
        metavar="TRACK",
        help="whose landscapes: live, or an ensemble's name; may be repeated (every track)",
    )
    diagnosis.add_argument("--checkpoint", choices=["best", "last"], default="last", help="which weights (last)")
    diagnosis.add_argument(
        "--examples",
        type=whole_number,
        default=500,
        metavar="N",
        help="largest number of training examples to attack, drawn by the run's seed (500)",
    )
    diagnosis.add_argument(
        "--points",
        type=whole_number,
        default=21,
        metavar="N",
        help="of a landscape along each direction, an odd number (21)",
    )
    diagnosis.add_argument(
        "--seed", type=whole_number, default=0, help="of the directions: one for all runs compared (0)"
    )
    diagnosis.add_argument(
        "--recompute", action="store_true", help="attack anew at every point of a 1-D landscape, as AWP's authors do"
    )

    _trust_flag(diagnosis)

    page = _verb(verbs, "report", _report, "one HTML page of one or several runs, which needs no network")
    page.add_argument(
        "runs", type=user_path, nargs="+", metavar="RUN", help="run folder; runs that differ in seed are one"
    )
    page.add_argument(
        "--output",
        type=user_path,
        metavar="FILE.html",
        help="where to write it (RUN/report.html; for several: report.html)",
    )

    plugins = verbs.add_parser("plugins", help="the installed plugins").add_subparsers(required=True, metavar="VERB")
    listing = _verb(plugins, "list", _plugins_list, "what is installed, from metadata alone")
    listing.add_argument("--kind", choices=KINDS, help="only this kind")
    listing.add_argument(
        "--hook", metavar="HOOK", help="only what has this hook, or is broken; imports it, as --check does"
    )
    listing.add_argument(
        "--check", action="store_true", help="also import each, apart from this process: status, hooks, paper, cost"
    )
    _json_flag(listing)
    show = _verb(plugins, "show", _plugins_show, "a component's settings, hooks, paper and cost")
    show.add_argument("name", help="as in a config")
    show.add_argument("--kind", choices=KINDS, help="of what the name is (the first of these that has it)")
    show.add_argument("--check", action="store_true", help="import it apart from this process first: status")
    _json_flag(show)
    check = _verb(plugins, "check", _plugins_check, "examine which promises a plugin, an attack or a logger keeps")
    check.add_argument("target", metavar="NAME|PATH", help="something installed, a .py file, or a package's folder")
    check.add_argument("--kind", choices=HOOKED, help="only this kind (all that have the name, or are in the package)")
    check.add_argument("overrides", nargs="*", metavar="key=value", help="settings to examine it with")
    _trust_flag(check)
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
    new.add_argument("--output", type=user_path, metavar="FOLDER", help="folder to make (buttress-NAME)")

    recipes = verbs.add_parser("recipes", help="configs that come with distributions")
    listed = recipes.add_subparsers(required=True, metavar="VERB")
    recipes_list = _verb(listed, "list", _recipes_list, "what can be given as a config; imports none of it")
    recipes_list.add_argument(
        "pattern", nargs="?", default="", metavar="PATTERN", help="only names that hold it: cifar10, 'digits/*awp'"
    )
    _json_flag(recipes_list)

    config = verbs.add_parser("config", help="look at configs").add_subparsers(required=True, metavar="VERB")
    config_show = _verb(config, "show", _config_show, "the config with every default filled in")
    _config_arguments(config_show)
    _trust_flag(config_show, "the config")
    _json_flag(config_show)
    validate = _verb(config, "validate", _config_validate, "check a config, its plugins, data and model")
    _config_arguments(validate)
    _trust_flag(validate, "the config")
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
    parser.add_argument(
        "config", type=user_path, metavar="CONFIG", help="YAML file, or dist:recipe (see: recipes list)"
    )
    parser.add_argument("overrides", nargs="*", metavar="key=value", help="epochs=10, data.batch_size=64, pgd.steps=5")


def _weights_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--track", default="live", help="live, or an ensemble's name (live)")
    parser.add_argument("--checkpoint", choices=["best", "last"], default="best", help="which weights (best)")


def _trust_flag(parser: argparse.ArgumentParser, what: str = "the run") -> None:
    parser.add_argument(
        "--trust",
        action="store_true",
        help=f"execute the code of {what} (its plugins_file, the modules of its targets), and remember it as trusted",
    )


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--json", action="store_true", help="print JSON")


def _aside(what: str) -> Reporter:
    """A reporter on standard error, away from what a verb has to say, that shows what is being done."""
    from buttress.console.reporter import Reporter, plain_console

    reporter = Reporter(console=plain_console(stderr=True))
    reporter.doing(what)
    return reporter


def _as_json(value: object) -> str:
    return Exact(json.dumps(value, indent=1, default=str))


# Verbs. Imports are inside, so that listing plugins and printing help load no torch.


def _train(options: argparse.Namespace) -> str:
    from buttress.config.schema import load_config
    from buttress.training.launch import launch

    file = load_config(options.config, options.overrides, trust=options.trust)
    launch(file, options.runs, options.run, dry_run=options.dry_run)
    return ""


def _resume(options: argparse.Namespace) -> str:
    from buttress.training.launch import continue_run

    continue_run(options.run, trust=options.trust, accept_changes=options.accept_changes)
    return ""


def _reproduce(options: argparse.Namespace) -> str:
    from buttress.training.reproduce import expect_equal, reproduce

    result = reproduce(options.run, options.runs, options.name, trust=options.trust)
    say(str(result))
    expect_equal(result)
    return ""


def _evaluate(options: argparse.Namespace) -> str:
    from buttress.evaluation.assess import assess, render
    from buttress.evaluation.subject import load_subject

    with _aside("loading data and weights") as reporter:
        subject = load_subject(
            options.subject,
            overrides=options.overrides,
            config=options.config,
            track=options.track,
            checkpoint=options.checkpoint,
            key=options.key,
            trust=options.trust,
        )
        result = assess(
            subject,
            options.attack,
            options.split,
            examples=options.examples,
            each=options.each,
            output=options.output,
            reporter=reporter,
        )
    return _as_json(result) if options.json else render(result, subject)


def _audit(options: argparse.Namespace) -> str:
    from buttress.audit.finding import render
    from buttress.audit.run import audit_run
    from buttress.errors import ConfigError, WorkError

    if options.examples < 1:
        raise ConfigError(f"--examples {options.examples}: expected a number >= 1")
    with _aside("loading data and weights") as reporter:
        run, findings = audit_run(
            options.run,
            options.track,
            options.checkpoint,
            examples=options.examples,
            doing=reporter.doing,
            trust=options.trust,
        )
    if options.json:
        say(_as_json([finding.to_json() for finding in findings]))
    else:
        say(f"{run}, {run.threat}\n\n{render(findings)}\n\nwritten to {run.folder.audit}")
    failed = [finding.check for finding in findings if finding.status == "FAIL"]
    if failed:
        raise WorkError(f"{options.run} fails: {', '.join(failed)}")
    return ""


def _export(options: argparse.Namespace) -> str:
    from buttress.console.tables import table
    from buttress.exporting.export import export_run

    digests = export_run(options.run, options.output, options.track, options.checkpoint, trust=options.trust)
    if options.json:
        return _as_json({"folder": str(options.output), "sha256": digests})
    return (
        f"{options.output}\n\n{table(['file', 'sha256'], list(digests.items()))}\n\n"
        "robustbench.json: link, name, authors and venue are yours to fill in"
    )


def _analyze(options: argparse.Namespace) -> str:
    from buttress.analysis.parts import Options
    from buttress.analysis.run import analyze

    chosen = Options(tuple(options.track), options.points, options.seed, options.recompute)
    for run in options.runs:
        with _aside(f"{run}: loading data and weights") as reporter:
            analyze(
                run,
                options.part,
                chosen,
                checkpoint=options.checkpoint,
                examples=options.examples,
                say=say,
                doing=reporter.doing,
                trust=options.trust,
            )
    return ""


def _report(options: argparse.Namespace) -> str:
    from buttress.report.run import write_report

    return f"report: {write_report(options.runs, options.output, say)}"


def _compare(options: argparse.Namespace) -> str:
    from buttress.comparing.compare import compare
    from buttress.comparing.sweep import part_of, plan, seeds_of
    from buttress.errors import ConfigError, WorkError

    configs = [user_path(word) for word in options.overrides if "=" not in word]
    if not configs:
        raise ConfigError("compare: expected at least one CONFIG, a YAML file, beside key=value")
    if options.jobs < 1:
        raise ConfigError(f"--jobs {options.jobs}: expected a number >= 1")
    overrides, seeds = seeds_of([word for word in options.overrides if "=" in word], options.seeds)
    variants = plan(configs, overrides)
    complain(f"checking {len(variants)} configs ..." if len(variants) > 1 else "checking the config ...")
    found = compare(
        variants,
        seeds,
        options.runs,
        options.name,
        attacks=options.attack,
        jobs=options.jobs,
        only=part_of(options.only),
        baseline=options.baseline,
        say=say,
        trust=options.trust,
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
        trust=options.trust,
    )
    lines = [f"{options.method} of {made.facts['n']} files, written to {options.output}"]
    if options.reestimate is not None:
        lines.append(f"batch norm re-estimated on the training inputs of {options.reestimate}")
    return "\n".join(lines + [f"note: {note}" for note in made.notes])


def _plugins_list(options: argparse.Namespace) -> str:
    from buttress.authoring.inventory import inventory
    from buttress.authoring.inventory_text import render_list

    rows = inventory(options.kind, check=options.check, hook=options.hook)
    return _as_json(rows) if options.json else render_list(rows)


def _plugins_show(options: argparse.Namespace) -> str:
    from buttress.authoring.inventory import describe
    from buttress.authoring.inventory_text import render

    facts = describe(options.kind, options.name, check=options.check)
    return _as_json(facts) if options.json else render(facts)


def _plugins_check(options: argparse.Namespace) -> str:
    from buttress.authoring.examination import examined
    from buttress.errors import PluginError, WorkError

    reports = examined(options.target, options.overrides, options.kind, trust=options.trust)
    texts = [report.pop("text") for report in reports]
    say(_as_json(reports) if options.json else "\n\n".join(texts))
    broken = [f"{report['plugin']} breaks {name}" for report in reports for name in report["broken"]]
    refused = [f"{report['plugin']} was not examined: {report['refused']}" for report in reports if "refused" in report]
    if broken:
        raise WorkError(f"{options.target}: {', '.join([*broken, *refused])}")
    if refused:
        raise PluginError(f"{options.target}: {', '.join(refused)}")
    return ""


def _plugins_new(options: argparse.Namespace) -> str:
    from buttress.authoring.scaffold import install_command, new_plugin

    folder = new_plugin(options.name, options.hook, options.output)
    return Exact(  # commands to copy: lines stay whole
        f'made {folder}; next:\n\n  {install_command(str(folder))}\n  pytest "{folder}"\n'
        f'  buttress train "{folder / "config.yaml"}"'
    )


def _recipes_list(options: argparse.Namespace) -> str:
    from buttress.config.recipes import recipes
    from buttress.console.tables import table

    rows = [
        {
            "recipe": str(recipe),
            "distribution": recipe.distribution,
            "version": recipe.version,
            "summary": recipe.summary,
            "path": str(recipe.path),
        }
        for recipe in recipes(options.pattern)
    ]
    if options.json:
        return _as_json(rows)
    if not rows:
        return f"no recipe holds {options.pattern!r}" if options.pattern else "no recipes"
    return table(
        ["recipe", "version", "summary"], [[row[key] for key in ("recipe", "version", "summary")] for row in rows]
    )


def _config_show(options: argparse.Namespace) -> str:
    from buttress.config.schema import dump_config, load_config
    from buttress.training.assembly import check_config

    file = load_config(options.config, options.overrides, trust=options.trust, looks=True)
    try:
        resolved = check_config(file).resolved
    except TrustError as problem:
        complain(f"shown without the defaults of plugins, data and model, which are not checked: {problem}")
        resolved = file.config.model_dump()
    return _as_json(resolved) if options.json else Exact(dump_config(resolved).rstrip())


def _config_validate(options: argparse.Namespace) -> str:
    from buttress.config.schema import load_config
    from buttress.training.assembly import check_config

    try:
        check_config(load_config(options.config, options.overrides, trust=options.trust, looks=True))
    except TrustError as problem:
        return f"{options.config}: the keys are valid; plugins, data and model are not checked: {problem}"
    return f"{options.config}: valid"


def _config_schema(options: argparse.Namespace) -> str:
    from buttress.config.schema import schema

    return _as_json(schema())


def _doctor(options: argparse.Namespace) -> str:
    from buttress.doctor import examine, render

    facts = examine()
    return _as_json(facts) if options.json else render(facts)


_NEED_TORCH = (
    _train,
    _resume,
    _reproduce,
    _evaluate,
    _audit,
    _export,
    _analyze,
    _report,
    _compare,
    _ensemble,
    _plugins_check,
    _config_show,
    _config_validate,
    _doctor,
)
"""Verbs whose first seconds go into importing torch, which a person is told."""
