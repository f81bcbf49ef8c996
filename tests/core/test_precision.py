"""The words of a precision, and what a config may say."""

import pytest

from buttress.errors import ConfigError
from buttress.precision import Precision, is_low


@pytest.mark.parametrize(
    ("given", "attack", "train", "score"),
    [
        ("float32", "float32", "float32", "float32"),
        ("bf16", "bf16", "bf16", "float32"),
        ("tf32", "tf32", "tf32", "float32"),
        ("float64", "float64", "float64", "float64"),
        ({"attack": "bf16"}, "bf16", "float32", "float32"),
        ({"attack": "bf16", "train": "tf32", "score": "bf16"}, "bf16", "tf32", "bf16"),
        ({}, "float32", "float32", "float32"),
    ],
)
def test_a_word_is_that_of_attack_and_train_and_the_score_stays_float32(given, attack, train, score):
    precision = Precision.read(given)
    assert precision == Precision(attack, train, score)
    assert Precision.read(precision.as_config()) == precision
    assert (precision.of("attack"), precision.of("train"), precision.of("score")) == (attack, train, score)


def test_a_precision_that_was_not_read_is_checked_too():
    for made in (Precision(train="bf61"), Precision(attack="float64"), Precision(attack="fp16")):
        with pytest.raises(ConfigError, match=r"expected one of|give float64 alone|float16 is not offered"):
            Precision.read(made)


@pytest.mark.parametrize("name", ["float16", "fp16", "half", 16])
def test_float16_is_refused_with_the_reason(name):
    with pytest.raises(ConfigError, match="underflow in it, so attacks stall and a model looks robust; use bf16"):
        Precision.read(name)
    with pytest.raises(ConfigError, match="attack: float16 is not offered"):
        Precision.read({"attack": name})


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("bfloat16", "expected one of float32, bf16, tf32, float64, got 'bfloat16'; did you mean 'bf16'?"),
        ("bf61", "did you mean 'bf16'?"),
        (None, "expected one of float32, bf16, tf32, float64, got None"),
        ({"train": "double"}, "train: expected one of .*; did you mean 'float64'?"),
        ({"atack": "bf16"}, "unknown kind of work 'atack'; did you mean 'attack'?"),
        ({"attack": "float64"}, "it holds for attack, train and score together; give float64 alone"),
    ],
)
def test_other_words_are_refused(given, message):
    with pytest.raises(ConfigError, match=message.replace("?", r"\?")):
        Precision.read(given)


def test_texts_and_low_precisions():
    assert str(Precision.read("float64")) == "float64"
    assert str(Precision.read("bf16")) == "bf16"
    assert str(Precision.read({"attack": "bf16"})) == "attack bf16, train float32, score float32"
    assert [is_low(word) for word in ("float32", "float64", "bf16", "tf32", "bfloat16")] == [False, False, *[True] * 3]
