"""Runs of versions that had fewer keys stay in their comparison; another precision is another variant."""

from buttress.comparing.plan_file import variant_digest

OLDER = {"model": {"name": "mlp"}, "epochs": 3, "seed": 1}


def test_a_run_of_an_older_version_is_the_same_variant():
    newer = {**OLDER, "precision": "float32", "compile": "off"}
    assert variant_digest(newer, None) == variant_digest(OLDER, None)


def test_another_precision_is_another_variant():
    digests = {
        variant_digest({**OLDER, "precision": precision}, None)
        for precision in ("float32", "bf16", {"attack": "bf16", "train": "float32", "score": "float32"})
    }
    assert len(digests) == 3
