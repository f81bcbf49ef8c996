"""Numbers of attacks in less than float32 are flagged until the same attacks have been made in float32."""

from typing import Any

import pytest
import torch

from buttress import Split
from buttress.audit.precision import audit_is_precise, scores_are_precise
from buttress.audit.probe import Probe
from buttress.precision import Precision
from tests.models import MLP

from .models import LINF


def row(attack: str, precision: str, n: int = 100) -> dict[str, Any]:
    return {"attack": attack, "n": n, "precision": precision}


@pytest.mark.parametrize(
    ("rows", "status", "reason"),
    [
        ([], "PASS", "0 numbers"),
        ([row("pgd-20", "float32"), row("fgsm", "float64")], "PASS", "2 numbers"),
        ([row("pgd-20", "bf16")], "WARN", "pgd-20 in bf16: of lower"),
        ([row("pgd-20", "bf16"), row("pgd-20", "float32", n=50)], "WARN", "pgd-20 in bf16: of lower"),
        ([row("pgd-20", "tf32"), row("pgd-20", "float64")], "PASS", "1 numbers"),
        ([row(str(each), "bf16") for each in range(4)], "WARN", "0 in bf16, 1 in bf16, 2 in bf16 ...: of lower"),
    ],
)
def test_the_records_of_a_run(rows: list[dict[str, Any]], status: str, reason: str):
    finding = scores_are_precise(rows, "buttress evaluate runs/a")
    assert finding.status == status
    assert finding.reason.startswith(reason)
    assert bool(finding.cure) == (status == "WARN")
    if finding.cure:
        assert finding.cure.startswith("buttress evaluate runs/a 'precision={score: float32}'")


@pytest.mark.parametrize(
    ("dtype", "precision", "word"),
    [
        (torch.float32, None, ""),
        (torch.float64, None, ""),
        (torch.float32, Precision.scoring("bf16"), "bf16"),
        (torch.bfloat16, None, "bfloat16"),  # weights in half precision
    ],
)
def test_the_audit_itself(dtype: torch.dtype, precision: Precision | None, word: str):
    split = Split(torch.rand(4, 1, 4, 4), torch.arange(4) % 3)
    finding = audit_is_precise(Probe(MLP().to(dtype), split, LINF, precision=precision))
    assert finding.status == ("WARN" if word else "PASS")
    assert f"attacked in {word or str(dtype).removeprefix('torch.')}" in finding.reason
