"""The page of a report: the template, filled with sections of tables and figures and with all that they need."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from buttress._version import __version__
from buttress.analysis.figures import HIGHEST
from buttress.analysis.parts import distance, histogram, label_noise, landscape, loss_groups, surface
from buttress.config.file import dump_config
from buttress.console.tables import percent
from buttress.precision import FULL
from buttress.report import figures, training_figures
from buttress.report.bundle import packed, plotly_bundle
from buttress.report.class_sections import class_section, image_section
from buttress.report.elements import ANALYZE, Section, Table, band, decimals, figure_of, measured, whose, with_caution
from buttress.report.material import Run, RunsOfConfig, different_examples, repeated_seeds
from buttress.threat import ThreatModel


def page_html(methods: Sequence[RunsOfConfig]) -> str:
    """The HTML text of a report."""
    environment = Environment(
        loader=PackageLoader("buttress.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    loader = environment.loader
    assert loader is not None
    sections = [make(methods) for make in _SECTIONS]
    return environment.get_template("page.html").render(
        title=", ".join(method.label for method in methods),
        facts=_facts(methods),
        sections=sections,
        figures=packed([figure.json for section in sections for figure in section.figures]),
        damaged=[line for method in methods for run in method.runs for line in run.damaged],
        runs=[_sources(run) for method in methods for run in method.runs],
        version=__version__,
        style=loader.get_source(environment, "style.css")[0],
        script=loader.get_source(environment, "page.js")[0],
        dark=json.dumps(figures.DARK),
        plotly=plotly_bundle(),
    )


def _facts(methods: Sequence[RunsOfConfig]) -> list[tuple[str, str]]:
    runs = [run for method in methods for run in method.runs]
    facts = {
        "threat model": map(_threat, runs),
        "data": (run.config.data.chosen for run in runs),
        "model": (run.config.model.chosen for run in runs),
        "attack of the curves": (run.attack for run in runs),
        "precision": (str(run.precision) for run in runs),
        "best epoch chosen on": (run.config.evaluation.best_by for run in runs),
        "test examples": (str(run.rows[0].n) for run in runs if run.rows),
        "seeds": (str(run.config.seed) for run in runs),
    }
    return [(name, "; ".join(dict.fromkeys(values))) for name, values in facts.items()]


def _threat(run: Run) -> str:
    threat = run.config.threat
    return str(ThreatModel(threat.norm, threat.eps, threat.box))


def _summary(methods: Sequence[RunsOfConfig]) -> Section:
    attacks = list(dict.fromkeys(run.attack for method in methods for run in method.runs))
    robust = attacks[0] if len(attacks) == 1 else "robust"
    several = len(methods) > 1
    header = ["method"] * several + [
        "track",
        "clean best",
        "last",
        "diff",
        f"{robust} best",
        "last",
        "diff",
        "best epoch",
        "seeds",
        "n",
    ]
    lines = []
    for method in methods:
        for track in method.tracks:
            rows = [row for run in method.runs for row in run.rows if row.track == track]
            n = rows[0].n
            measures = [
                measured([getattr(row, f"{kind}_{measure}") for row in rows], None if measure == "diff" else n)
                for kind in ("clean", "robust")
                for measure in ("best", "last", "diff")
            ]
            epochs = ", ".join(str(row.best_epoch) for row in rows)
            lines.append([*[method.label] * several, track, *measures, epochs, len(rows), n])
    unfinished = [run.name for method in methods for run in method.runs if not _finished(run)]
    note = (
        "Test accuracies in %; mean ± sample standard deviation where there are several seeds. diff: best minus last. "
        "Below: where the accuracy may lie, given n test examples (Wilson's 95 % interval)."
    )
    note += f" Not finished yet: {', '.join(unfinished)}." if unfinished else ""
    note += "".join(f" Not counted: {line}." for line in repeated_seeds(methods))
    runs = [run for method in methods for run in method.runs]
    note += "".join(f" Caution: {run.name}, {run.caution}." for run in runs if run.caution)
    for subject, kinds in (
        ("threat model", {_threat(run) for run in runs}),
        ("attack", set(attacks)),
        ("data", {run.config.data.chosen for run in runs}),
        ("precision of the evaluations", {run.precision.score for run in runs}),
    ):
        if len(kinds) > 1:
            note += f" The methods differ in {subject}: their robust accuracies do not compare."
    if different_examples(methods):
        note += " Runs of one seed were tested on different examples: their accuracies do not compare."
    missing = "" if lines else "No run has been evaluated yet."
    return Section("Best, last and their difference", [Table(header, lines, note)] if lines else [], missing=missing)


def _curves(methods: Sequence[RunsOfConfig]) -> Section:
    note = "Solid: test set. Dotted: training set, where it was scored. Stars: epochs chosen as best."
    made = []
    if len(methods) > 1:
        about = f"Thick and black: {methods[0].label}, the baseline, since it was given first. {band(methods)}"
        made.append(figure_of("Methods side by side", figures.side_by_side(methods), about, wide=True))
    for method in methods:
        for measure in ("robust", "clean"):
            if method.tracks:
                title = f"{method.label}: {measure} accuracy" + (f" ({method.runs[0].attack})" * (measure == "robust"))
                made.append(figure_of(title, figures.curves(method, measure), f"{note} {band([method])}"))
    return Section("Learning curves", figures=made, missing="" if made else "No run has been evaluated yet.")


def _training(methods: Sequence[RunsOfConfig]) -> Section:
    if not any(run.trained for method in methods for run in method.runs):
        return Section("Training", missing="No epoch has been trained yet.")
    note = "Mean over the steps of each epoch, in the units of each method's own loss."
    return Section(
        "Training",
        figures=[
            figure_of("Training loss", training_figures.losses(methods), f"{note} {band(methods)}"),
            figure_of("Learning rate", training_figures.learning_rates(methods), "After the last step of each epoch."),
        ],
    )


def _gaps(methods: Sequence[RunsOfConfig]) -> Section:
    made = []
    for method in methods:
        figure = figures.gaps(method)
        if figure is not None:
            note = "Robust accuracy on the training set, under its labels as given, minus that on the test set."
            made.append(figure_of(method.label, figure, f"{note} {band([method])}"))
    missing = "Not there: the runs were to be trained with evaluation.train=true, which scores the training set too."
    return Section("Robust generalization gap", figures=made, missing="" if made else missing)


def _evaluations(methods: Sequence[RunsOfConfig]) -> Section:
    tables = [_evaluation(run, result) for method in methods for run in method.runs for result in run.evaluations]
    missing = "" if tables else "Not there yet; this makes it: buttress evaluate RUN"
    return Section("Evaluation under attack", tables, missing=missing)


def _evaluation(run: Run, result: Mapping[str, Any]) -> Table:
    """One ``buttress evaluate``: a row for each attack, and the worst case below."""
    each, epoch = result["each"], result["epoch"]
    header = ["attack", "attacked", "wrong", "accuracy %" if each else "left %", "95 % interval", "n"]
    attacks = result["attacks"]
    rows = [[row["attack"], row["attacked"], row["wrong"], *_bounds(row if each else row["left"])] for row in attacks]
    rows.append(["worst case", "", "", *_bounds(result["worst"])])
    kinds = [*[""] * len(attacks), "total"]
    own, used = run.examples(result["split"]), result.get("fingerprint")
    others = " of other data than the run's" if None not in (own, used) and own != used else ""
    about = [
        run.name,
        f"{result['track'] or result['weights']} weights",
        (result["checkpoint"] or "") + ("" if epoch is None else f" (epoch {epoch})"),
        f"{result['split']} split{others}",
        result["threat"],
        result.get("precision", FULL),
        f"seed {result['seed']}",
    ]
    meaning = (
        "Every attack saw every example; worst case: right without an attack and under each of them."
        if each
        else "Left: right without an attack and under all attacks so far, which is not an attack's own accuracy."
    )
    return Table(header, rows, with_caution(f"{', '.join(filter(None, about))}. {meaning}", result), kinds)


def _bounds(row: Mapping[str, Any]) -> list[str]:
    """Accuracy, interval and n of a share; accuracy and interval are blank where an attack has none of its own."""
    n = str(row["n"])
    if None in (row["accuracy"], row["low"], row["high"]):
        return ["", "", n]
    return [percent(row["accuracy"]), f"{percent(row['low'])} to {percent(row['high'])}", n]


def _audit(methods: Sequence[RunsOfConfig]) -> Section:
    tables = []
    for run in (run for method in methods for run in method.runs):
        audited: dict[str, list[Mapping[str, Any]]] = {}
        order = {row.track: number for number, row in enumerate(run.rows)}
        for row in sorted(run.audit or [], key=lambda row: order.get(str(row["track"]), 0)):
            about = with_caution(f"{run.name}, {row['track']} weights, {row['checkpoint']}.", row)
            audited.setdefault(about, []).append(row)
        tables += [_audited(about, rows) for about, rows in audited.items()]
    missing = "" if tables else "Not there yet; this makes it: buttress audit RUN"
    return Section("Audit of the evaluation", tables, missing=missing)


def _audited(about: str, findings: Sequence[Mapping[str, Any]]) -> Table:
    """The audit of one set of weights; with a column of cures if any finding has one."""
    header = ["status", "check", "reason", *(["cure"] if any(row["cure"] for row in findings) else [])]
    rows = [[row[key] for key in header] for row in findings]
    return Table(header, rows, about, [f"finding {row[0].lower()}" for row in rows])


def _landscapes(methods: Sequence[RunsOfConfig]) -> Section:
    made, planes = [], []
    for method in methods:
        for run, numbers in method.analysed("landscape-"):
            title = f"{method.label}, {whose(numbers)}"
            note = (
                f"Training examples of {run.name} in groups by their adversarial loss ({numbers['attack']}) at 0; "
                f"inputs {numbers['inputs']}. One filter-normalised direction for all groups. Legend: loss in nats "
                f"(examples). Cut off at {HIGHEST:g} nats."
            )
            made.append(figure_of(title, landscape.figure(numbers), with_caution(note, numbers)))
        planes += [(f"{method.label}, {whose(numbers)}", numbers) for _, numbers in method.analysed("surface-")]
    if planes:
        same = len({numbers["directions"] for _, numbers in planes}) == 1
        note = "The same two directions, filter-normalised, for all." if same else "Directions differ: do not compare."
        note += f" Cut off at {HIGHEST:g} nats. Choose surfaces in the legend; drag to turn."
        for name, numbers in planes:
            note = with_caution(note, {"mark": f"{name}: {numbers['mark']}" if numbers["mark"] else ""})
        made.insert(0, figure_of("Loss over the plane of two directions", surface.figure(planes), note, wide=True))
    return Section("Loss landscapes", figures=made, missing="" if made else ANALYZE)


def _weights(methods: Sequence[RunsOfConfig]) -> Section:
    made, tables = [], []
    for method in methods:
        for run, numbers in method.analysed("histogram"):
            figure = histogram.figure(numbers, method.tracks)
            made.append(figure_of(f"{method.label}: {numbers['layer']}", figure, with_caution(f"{run.name}.", numbers)))
            own = {track: numbers["tracks"][track] for track in method.tracks if track in numbers["tracks"]}
            rows = [
                [track, decimals(each["std"], 4), decimals(each["largest"], 4), decimals(each["kurtosis"], 2)]
                for track, each in own.items()
            ]
            header = ["track", "std", "largest magnitude", "kurtosis (normal: 3)"]
            about = f"{run.name}, {numbers['layer']}, {numbers['checkpoint']} weights."
            tables.append(Table(header, rows, with_caution(about, numbers)))
        for run, numbers in method.analysed("distance"):
            note = with_caution(f"{run.name}. L2, from the weights after epoch {numbers['last_epoch']}.", numbers)
            made.append(figure_of(f"{method.label}: distance by layer group", distance.figure(numbers), note))
    return Section("Weights", tables, made, missing="" if made else ANALYZE)


def _losses(methods: Sequence[RunsOfConfig]) -> Section:
    made = []
    for method in methods:
        for run, numbers in method.analysed("loss_groups"):
            note = with_caution(f"{run.name}, n = {numbers['n']}, {numbers['attack']}; {numbers['source']}.", numbers)
            made.append(figure_of(f"{method.label}: losses by group", loss_groups.figure(numbers), note))
        for run, numbers in method.analysed("label_noise"):
            for inputs in ("clean", "attacked"):
                note = f"{run.name}, n = {numbers['n']} training examples whose label was flipped on purpose."
                title = f"{method.label}: flipped labels, {inputs} inputs are predicted as"
                made.append(figure_of(title, label_noise.figure(numbers, inputs), with_caution(note, numbers)))
    return Section("Training examples", figures=made, missing="" if made else ANALYZE)


_SECTIONS: list[Callable[[Sequence[RunsOfConfig]], Section]] = [
    _summary,
    _curves,
    _training,
    _gaps,
    _evaluations,
    class_section,
    image_section,
    _audit,
    _landscapes,
    _weights,
    _losses,
]


def _sources(run: Run) -> dict[str, str]:
    """Config and manifest of a run, as text."""
    return {
        "name": run.name,
        "config": dump_config(run.config.model_dump(mode="json")),
        "manifest": json.dumps(run.manifest, indent=1),
    }


def _finished(run: Run) -> bool:
    return run.folder.summary.is_file()
