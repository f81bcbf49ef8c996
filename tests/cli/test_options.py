"""Values of options that several verbs share."""

import pytest

from buttress.cli.options import part_of
from buttress.errors import ConfigError


def test_a_part_of_the_work_is_one_of_so_many():
    assert [part_of(text, "--only") for text in ("1/1", "2/3", "10/10")] == [(1, 1), (2, 3), (10, 10)]
    for text in ("", "1", "0/2", "3/2", "1/0", "a/2", "1/-2", "1.5/2", "1/2/3", "\u0661/\u0662", "1/" + "9" * 5000):
        with pytest.raises(ConfigError, match=r"--only .*: expected a part and the number of parts"):
            part_of(text, "--only")
