"""``buttress analyze``: puts the parts to a run, and writes the numbers and the picture of every answer."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buttress.analysis.answer_files import write_answer
from buttress.analysis.part import Missing, Options, json_value
from buttress.analysis.parts import PARTS
from buttress.analysis.study import Study
from buttress.errors import ConfigError, nearest
from buttress.kernels import use_backend
from buttress.storage.files import make_folder


@dataclass
class Analysis:
    """The result of ``analyze``.

    Args:
        written: JSON files; a picture of the same name lies beside each.
        missing: parts that the run could not answer, each with the reason.
    """

    written: list[Path] = field(default_factory=list)
    missing: dict[str, str] = field(default_factory=dict)


def analyze(
    path: Path,
    parts: Sequence[str] = (),
    options: Options | None = None,
    *,
    checkpoint: str = "last",
    examples: int = 500,
    say: Callable[[str], None] = lambda text: None,
    doing: Callable[[str], None] = lambda part: None,
    trust: bool = False,
) -> Analysis:
    """Analyze one run; earlier answers of the same parts are replaced.

    Args:
        path: run folder.
        parts: names of parts; empty for all.
        options: options of the parts.
        checkpoint: weights of each track that are examined, ``best`` or ``last``.
        examples: largest number of training examples that attacks and landscapes use.
        say: called with a line when a part is done.
        doing: called with the name of the part before it begins.
        trust: execute the code that came with the run, and remember it as trusted.

    Raises:
        ConfigError, CheckpointError: an unknown part, a wrong option, or a track that the run does not have.
        InputError: the run cannot be opened.
    """
    options = options or Options()
    for part in parts:
        if part not in PARTS:
            raise ConfigError(f"unknown{nearest(part, PARTS)}", key=f"--part {part!r}")
    if examples < 1:
        raise ConfigError("expected a number >= 1", key=f"--examples {examples}")
    study = Study(path, checkpoint, examples, trust=trust)
    for track in options.tracks:
        study.folder.saved_weights(checkpoint, track)
    analysis = Analysis()
    say(f"{path}: parts that attack take {study.drawn}")
    make_folder(study.folder.analysis)
    with use_backend(study.file.config.backend):
        for part in parts or PARTS:
            doing(f"{path}: {part}")
            try:
                with study.engine.at_work.doing("score"):
                    for answer in PARTS[part].ask(study, options):
                        file = study.folder.analysis / f"{answer.stem}.json"
                        numbers = {**json_value(answer.numbers), "precision": study.precision}
                        write_answer(file, numbers)
                        PARTS[part].draw(file.with_suffix(".png"), numbers)
                        analysis.written.append(file)
                        say(f"{part}: {file}")
            except Missing as reason:
                analysis.missing[part] = str(reason)
                say(f"{part}: not there: {reason}")
    return analysis
