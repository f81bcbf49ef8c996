"""The threat model of training, whose radius may change over the epochs while that of evaluations stays."""

from __future__ import annotations

from fractions import Fraction

from pydantic import TypeAdapter, ValidationError

from buttress.components.curves import expect_fit
from buttress.components.per_epoch import STRICT
from buttress.components.place import Place
from buttress.components.readable import readable
from buttress.components.validation import problems
from buttress.epochs import Curve, PerEpoch, values_of
from buttress.errors import ConfigError
from buttress.settings import NonNegativeFraction
from buttress.threat import ThreatModel

Radius = PerEpoch[NonNegativeFraction]
PLACE = Place("threat").under("training_eps")


class TrainingThreat:
    """The threat models of all epochs, which differ in the radius alone.

    Args:
        threat: norm, box, and the radius where ``eps`` is None.
        eps: radius in training, or a schedule over the epochs, as a config writes them.
        epochs: number of epochs of the run, or None where it is not known.
        place: place of ``eps``, for messages.

    Raises:
        ConfigError: ``eps`` is no radius or reaches beyond the box, or its schedule does not fit the epochs.
    """

    def __init__(
        self, threat: ThreatModel, eps: object = None, epochs: int | None = None, place: Place = PLACE
    ) -> None:
        self._threat, self._epochs, self._place = threat, epochs, place
        self.eps: PerEpoch[Fraction] = threat.eps if eps is None else _radius(eps, place)
        models = [self._of(radius) for radius in values_of(self.eps)]
        if isinstance(self.eps, Curve):
            with place.error_context():
                expect_fit(self.eps, epochs, None)
        self._last = models[0]

    @property
    def widest(self) -> ThreatModel:
        """The threat model with the largest radius of the run."""
        return self._of(max(values_of(self.eps)))

    def at(self, epoch: int) -> ThreatModel:
        """The threat model of a 0-based epoch."""
        if isinstance(self.eps, Curve):
            radius = self.eps.at(epoch, self._epochs)
            if radius != self._last.eps:
                self._last = self._of(radius)
        return self._last

    def _of(self, radius: Fraction) -> ThreatModel:
        if radius == self._threat.eps:
            return self._threat
        try:
            return ThreatModel(self._threat.norm, radius, self._threat.box)
        except ConfigError as problem:
            raise ConfigError(problem.message, key=self._place) from None


def _radius(eps: object, place: Place) -> PerEpoch[Fraction]:
    kind: TypeAdapter[PerEpoch[Fraction]] = TypeAdapter(readable(Radius), config=STRICT)
    try:
        return kind.validate_python(eps)
    except ValidationError as failure:
        raise ConfigError("; ".join(problem for _, problem in problems(failure, eps)), key=place) from None
