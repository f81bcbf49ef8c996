"""The precision of a model's passes, as a config names it. Loads no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from buttress.errors import ConfigError, nearest

PrecisionName = Literal["float32", "bf16", "tf32", "float64"]
Work = Literal["attack", "train", "score"]
"""A kind of work: attacks of training, losses and gradients of training, evaluations."""
WORKS: tuple[Work, ...] = get_args(Work)
FULL: PrecisionName = "float32"
"""The precision of evaluations that name none: those of older versions."""

_FLOAT16 = (
    "float16 is not offered: input gradients underflow in it, so attacks stall and a model looks robust; use bf16, "
    "which has the range of float32"
)
_NAMES_OF_FLOAT16 = ("float16", "fp16", "half", "16", "torch.float16")
_OTHER_NAMES = {"bfloat16": "bf16", "fp32": "float32", "single": "float32", "fp64": "float64", "double": "float64"}


@dataclass(frozen=True)
class Precision:
    """The precision of each kind of work.

    ``float32``: IEEE float32, TF32 off. ``bf16``: each forward in an autocast region of its own; weights, gradients,
    logits and losses are float32. ``tf32``: float32 whose matrix products and convolutions round their inputs to TF32,
    on CUDA. ``float64``: model and data in float64.

    Args:
        attack: precision of the attacks of training.
        train: precision of the forwards of the training loss, and of their backwards.
        score: precision of evaluations: their attacks and their verdicts.
    """

    attack: str = "float32"
    train: str = "float32"
    score: str = "float32"

    @classmethod
    def read(cls, given: object, place: object = "") -> Precision:
        """The precision that ``given`` stands for: one word, or a word for each kind of work that is named.

        One word is that of attack and train; score stays float32 unless it is named, or the word is ``float64``.

        Args:
            given: a word, a mapping from kinds of work to words, or a precision.
            place: place of ``given``, for the error.

        Raises:
            ConfigError: an unknown word or kind of work, float16, or float64 beside another word.
        """
        if isinstance(given, Precision):
            given = given.words
        if isinstance(given, Mapping):
            if unknown := [key for key in given if key not in WORKS]:
                raise ConfigError(f"unknown kind of work {unknown[0]!r}{nearest(str(unknown[0]), WORKS)}", key=place)
            words = {str(work): _word(value, f"{work}: ", place) for work, value in given.items()}
        else:
            word = _word(given, "", place)
            words = dict.fromkeys(WORKS if word == "float64" else WORKS[:2], word)
        precision = cls(**words)
        if "float64" in words.values() and set(asdict(precision).values()) != {"float64"}:
            raise ConfigError(
                "float64 is the dtype of the weights, so it holds for attack, train and score together; give float64 "
                "alone",
                key=place,
            )
        return precision

    @classmethod
    def scoring(cls, word: str) -> Precision:
        """The precision of an evaluation in ``word``.

        Raises:
            ConfigError: an unknown word, or float16.
        """
        return cls.read(word if word == "float64" else {"score": word})

    def of(self, work: Work) -> str:
        """The word of one kind of work."""
        word: str = getattr(self, work)
        return word

    @property
    def words(self) -> dict[str, str]:
        """Each kind of work to its word, for files of results."""
        return asdict(self)

    def as_config(self) -> str | dict[str, str]:
        """One word where that says all, else the word of each kind of work."""
        for word in dict.fromkeys(self.words.values()):
            if word in get_args(PrecisionName) and Precision.read(word) == self:
                return word
        return self.words

    def __str__(self) -> str:
        if self.attack == self.train == self.score:
            return self.attack
        config = self.as_config()
        return config if isinstance(config, str) else ", ".join(f"{work} {word}" for work, word in config.items())


def _word(given: object, which: str, place: object) -> str:
    text, words = str(given), get_args(PrecisionName)
    if text in words:
        return text
    if text in _NAMES_OF_FLOAT16:
        raise ConfigError(f"{which}{_FLOAT16}", key=place)
    meant = f"; did you mean {_OTHER_NAMES[text]!r}?" if text in _OTHER_NAMES else nearest(text, words)
    raise ConfigError(f"{which}expected one of {', '.join(words)}, got {given!r}{meant}", key=place)


def is_low(word: str) -> bool:
    """Whether ``word`` is an arithmetic of fewer digits than float32."""
    return word not in ("float32", "float64")
