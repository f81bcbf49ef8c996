"""The space of a search, as words of a command line give it."""

import pytest

from buttress.errors import ConfigError
from buttress.searching.space import Range, SearchedChoice, Space, read_space


def only(word: str) -> Range | SearchedChoice:
    (dimension,) = read_space([word]).dimensions
    return dimension


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a=log(1e-3,1e-1)", Range("a", 1e-3, 0.1, log=True)),
        ("a= log( 1/1000 , 1/10 ) ", Range("a", 1e-3, 0.1, log=True)),
        ("a=0.5:3.0", Range("a", 0.5, 3.0)),
        ("a=-1:1", Range("a", -1, 1, whole=True)),
        ("a=8/255:16/255", Range("a", 8 / 255, 16 / 255)),
        ("a=log(2,64)", Range("a", 2, 64, log=True, whole=True)),
        ("a=x,y,z", SearchedChoice("a", ("x", "y", "z"))),
        ("a=[1],[1,2]", SearchedChoice("a", ("[1]", "[1,2]"))),
        ("a={m: [1,2]},null", SearchedChoice("a", ("{m: [1,2]}", "null"))),
    ],
)
def test_a_word_is_a_dimension(word: str, expected: Range | SearchedChoice):
    assert only(word) == expected


@pytest.mark.parametrize("word", ["device=cuda:0", "a={pgd: {steps: 2}}", "a=[1,2]", "a='1:2'", "threat.eps=8/255"])
def test_any_other_value_is_fixed(word: str):
    space = read_space([word, "b=1:2"])
    assert space.fixed == (word,)
    assert [each.key for each in space.dimensions] == ["b"]


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("a", "expected key=log(a,b), key=a:b or key=a,b,c to search it, or key=value"),
        ("a=", "expected key=log(a,b)"),
        ("a=log(0,1)", "got log(0,1): the logarithm needs numbers > 0"),
        ("a=log(1,2", "expected log(a,b) with two numbers 0 < a < b"),
        ("a=log(1,2,3)", "expected log(a,b) with two numbers 0 < a < b"),
        ("a=log(x,1)", "expected a finite number or a fraction like 8/255, got 'x'"),
        ("a=exp(1,2)", "there is no exp(...)"),
        ("a=3:1", "expected a:b with two numbers a < b, got 3:1; turn them round: 1 is the lower one"),
        ("a=1:1", "expected a:b with two numbers a < b, got 1:1"),
        ("a=1:", "got 1: (expected a finite number"),
        ("a=0:inf", "got 0:inf (expected a finite number"),
        ("a=1:2:3", "got 1:2:3 (expected a finite number"),
        ("a=1,,2", "expected different values between the commas"),
        ("a=1,1", "expected different values between the commas"),
        ("seed=1,2", "given by --seeds"),
        ("seed=1", "given by --seeds"),
        ("name=x", "given by --name"),
        ("plugins=[pgd],[fgsm]", "search their settings"),
        ("threat.eps=4/255:8/255", "threat.eps is a part of how trials are measured"),
        ("evaluation.attack=pgd-2,pgd-5", "evaluation.attack is a part of how trials are measured"),
    ],
)
def test_a_mistake_is_one_sentence_that_begins_with_its_word(word: str, expected: str):
    with pytest.raises(ConfigError) as caught:
        read_space([word, "b=1:2"])
    assert str(caught.value).startswith(f"override {word!r}: ")
    assert expected in str(caught.value)


def test_a_key_comes_once_and_something_is_searched():
    with pytest.raises(ConfigError, match="a is given twice; give it once"):
        read_space(["a=1:2", "a=3"])
    with pytest.raises(ConfigError, match="nothing to search; give at least one range or choice"):
        read_space(["a=3"])


def test_the_points_of_a_check_are_the_ends_and_every_choice():
    space = read_space(["a=1:3", "b=0.5:1.5", "c=x,y,z"])
    assert space.points() == [
        {"a": "1", "b": "0.5", "c": "x"},
        {"a": "1", "b": "0.5", "c": "y"},
        {"a": "1", "b": "0.5", "c": "z"},
        {"a": "3", "b": "1.5", "c": "z"},
    ]


def test_whole_ends_give_whole_numbers_only_where_the_setting_is_one():
    space = read_space(["steps=1:3", "c=1:3", "d=0.5:3"])
    settled = space.with_whole_numbers(lambda key, value: (key, value) == ("c", "1.5"))
    assert [each.whole for each in settled.dimensions if isinstance(each, Range)] == [True, False, False]
    assert [str(each) for each in settled.dimensions] == ["1:3, whole numbers", "1.0:3.0", "0.5:3.0"]
    assert settled == Space(settled.dimensions, ())
