"""The sections of a report about single classes and single images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from buttress.analysis.parts import classes
from buttress.console.tables import percent
from buttress.report.elements import ANALYZE, ExampleColumn, Pictures, Section, Table, figure_of, whose, with_caution
from buttress.report.material import RunsOfConfig

# Largest number of bytes of all pictures of a page, so that it stays below 2 MB.
MOST_PICTURES = 600_000


def class_section(methods: Sequence[RunsOfConfig]) -> Section:
    made, tables = [], []
    for method in methods:
        for run, numbers in method.analysed("classes"):
            about = with_caution(f"{run.name}, {numbers['attack']}, n = {numbers['n']} test examples.", numbers)
            header = ["track", "weights", "clean, all", "lowest class", "attacked, all", "lowest class"]
            tables.append(Table(header, [_by_class(row, numbers) for row in numbers["rows"]], about))
            shown = classes.hardest(numbers)
            some = f" The {len(shown)} hardest of {len(numbers['sizes'])} classes." * (
                len(shown) < len(numbers["sizes"])
            )
            figure = classes.figure(numbers, "best", shown)
            note = f"{about} Best weights. Open: clean. Filled: attacked.{some}"
            made.append(figure_of(f"{method.label}: accuracy by class", figure, note))
    return Section("Classes", tables, made, missing="" if made else ANALYZE)


def _by_class(row: Mapping[str, Any], numbers: Mapping[str, Any]) -> list[object]:
    """Accuracy over all classes, and the lowest accuracy of a class, on clean and on attacked inputs."""
    sizes, cells = numbers["sizes"], [row["track"], f"{row['checkpoint']} (epoch {row['epoch']})"]
    for inputs in ("clean", "attacked"):
        shares = {
            number: right / size for number, (right, size) in enumerate(zip(row[inputs], sizes, strict=True)) if size
        }
        lowest = min(shares, key=lambda number: shares[number])
        cells += [percent(sum(row[inputs]) / sum(sizes)), f"{percent(shares[lowest])} (class {lowest})"]
    return cells


def image_section(methods: Sequence[RunsOfConfig]) -> Section:
    made, size, left_out = [], 0, []
    for method in methods:
        for run, numbers in method.analysed("images-"):
            examples = [
                ExampleColumn(
                    f"{label}: {clean} \u2192 {attacked}",
                    [
                        (f"{numbers[key][number]}", f"test example {numbers['positions'][number]}, {key}")
                        for key in ("clean", "attacked", "difference")
                    ],
                )
                for number, (label, clean, attacked) in enumerate(
                    zip(numbers["labels"], numbers["predicted"], numbers["predicted_attacked"], strict=True)
                )
            ]
            title = f"{method.label}, {whose(numbers)}"
            size += sum(len(data) for example in examples for data, _ in example.images)
            if size > MOST_PICTURES:
                left_out.append(title)
                continue
            note = (
                f"{run.name}, {numbers['attack']}, {numbers['threat']}. From top to bottom: clean, attacked, their "
                f"difference times {numbers['amplified']:.3g} around grey. Below: true class: predicted class, clean "
                "\u2192 attacked. The first test examples of a fixed order, nothing chosen."
            )
            made.append(Pictures(title, examples, with_caution(note, numbers)))
    some = f"Left out, for the size of the page: {', '.join(left_out)}; see analysis/images-*.png." if left_out else ""
    return Section("Adversarial images", pictures=made, missing=some if made else ANALYZE)
