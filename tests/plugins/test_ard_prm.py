"""ARD and PRM on small transformers of timm: literal steps, the share that is kept, draws, refusals, whole runs."""

import functools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
import yaml
from torch import Tensor, nn

from buttress import Engine, ThreatModel
from buttress.cli import main
from buttress.errors import ButtressError
from buttress_plugins.attacks.ard_prm import attention_branches, keep_rate, patch_size, pixels

from ..models import ConvNet

SIZES: dict[str, Any] = {"img_size": 8, "patch_size": 2, "embed_dim": 12, "depth": 3, "num_heads": 2}
STEPS, BLOCKS, PATCHES, EPS = 4, 3, 16, 0.1


def vit(**sizes: Any) -> nn.Module:
    torch.manual_seed(0)
    arch = "vit_tiny_patch16_224"
    return timm.create_model(arch, num_classes=4, in_chans=1, **{**SIZES, **sizes}).double()


def examples(n: int = 5, seed: int = 0) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    x = torch.rand((n, 1, 8, 8), generator=generator, dtype=torch.float64)
    return x, torch.arange(n) % 4


def draws_of(seed: int = 0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "ard_prm.start": EPS * (2 * torch.rand((5, 1, 8, 8), generator=generator, dtype=torch.float64) - 1),
        "ard_prm.branches": torch.rand((STEPS, BLOCKS), generator=generator) < 0.5,
        "ard_prm.patches": torch.rand((STEPS, PATCHES), generator=generator) < 0.4,
    }


def engine_of(*plugins: Any, model: nn.Module | None = None, **options: Any) -> Engine:
    sgd = functools.partial(torch.optim.SGD, lr=0.1)
    threat = ThreatModel("linf", "1/10")
    return Engine(model or vit(), sgd, list(plugins), threat, **{"epochs": 4, "steps_per_epoch": 2, **options})


def ard_prm(**settings: Any) -> dict[str, Any]:
    return {"ard_prm": {"steps": STEPS, "step_size": "3/100", **settings}}


def logits_of(model: Any, x: Tensor, dropped: list[bool]) -> Tensor:
    """The forward of a ViT written out; the gradient of a dropped block leaves its attention branch out."""
    tokens = model.pos_drop(model._pos_embed(model.patch_embed(x)))
    for block, out in zip(model.blocks, dropped, strict=True):
        branch = block.attn(block.norm1(tokens))
        tokens = tokens + (branch.detach() if out else branch)
        tokens = tokens + block.mlp(block.norm2(tokens))
    return model.head(model.norm(tokens)[:, 0])


def literal(model: nn.Module, x: Tensor, y: Tensor, draws: dict[str, Tensor], loss: str) -> Tensor:
    """The attack of algorithm 1, with ``draws``."""
    model.eval()
    p = F.softmax(model(x), 1).detach()
    delta = draws["ard_prm.start"]
    for step in range(STEPS):
        mask = draws["ard_prm.patches"][step].view(4, 4)
        delta = delta.clone()
        for row in range(4):
            for column in range(4):
                if mask[row, column]:
                    delta[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2] = 0
        delta.requires_grad_()
        z = logits_of(model, x + delta, draws["ard_prm.branches"][step].tolist())
        divergence = (p * (p.log() - F.log_softmax(z, 1))).sum()
        value = F.cross_entropy(z, y, reduction="sum") if loss == "ce" else divergence
        (g,) = torch.autograd.grad(value, delta)
        delta = (delta.detach() + 0.03 * g.sign()).clamp(-EPS, EPS)
        delta = (x + delta).clamp(0, 1) - x
    model.train()
    return x + delta


@pytest.mark.parametrize("loss", ["ce", "kl"])
def test_the_attack_agrees_with_its_literal_form(loss: str):
    (x, y), draws = examples(), draws_of()
    expected = literal(vit(), x, y, draws, loss)
    adv = engine_of(ard_prm(loss=loss)).step(x, y, draws=draws).adv
    assert float((adv.x - expected).abs().max()) <= 1e-9
    kept = {**draws, "ard_prm.branches": torch.zeros(STEPS, BLOCKS, dtype=torch.bool)}
    assert float((literal(vit(), x, y, kept, loss) - expected).abs().max()) > 1e-3


def test_after_the_warm_up_it_is_pgd():
    x, y = examples()
    start = draws_of()["ard_prm.start"]
    one, other = engine_of(ard_prm(warmup=0)), engine_of({"pgd": {"steps": STEPS, "step_size": "3/100"}})
    first = one.step(x, y, draws={"ard_prm.start": start})
    second = other.step(x, y, draws={"pgd.start": start})
    assert torch.equal(first.adv.x, second.adv.x)
    assert torch.equal(first.losses, second.losses)


def test_before_it_everything_is_left_out():
    """At rate 0 every step begins at x and sees no attention: one step of PGD on the branches that are left."""
    x, y = examples()
    everything = {
        "ard_prm.start": draws_of()["ard_prm.start"],
        "ard_prm.branches": torch.ones(STEPS, BLOCKS, dtype=torch.bool),
        "ard_prm.patches": torch.ones(STEPS, PATCHES, dtype=torch.bool),
    }
    by_rate = engine_of(ard_prm(warmup=1000), steps_per_epoch=None).step(x, y).adv.x
    assert torch.equal(by_rate, engine_of(ard_prm()).step(x, y, draws=everything).adv.x)
    assert float((by_rate - x).abs().max()) <= 0.03 + 1e-12


@pytest.mark.parametrize(
    ("place", "rate"),
    [((0, 0, 10), 0.01), ((0, 9, 10), 0.1), ((4, 4, 10), 0.45), ((9, 9, 10), 1.0), ((30, 0, 10), 1.0)],
)
def test_the_share_that_is_kept_counts_the_steps_taken(place: tuple[int, int, int], rate: float):
    assert keep_rate(*place, warmup=10.0) == pytest.approx(rate)


def test_without_the_number_of_steps_the_share_counts_whole_epochs():
    assert [keep_rate(epoch, 3, None, warmup=4.0) for epoch in range(6)] == [0.0, 0.25, 0.5, 0.75, 1.0, 1.0]
    assert keep_rate(0, 0, None, warmup=0.0) == 1.0


@pytest.mark.parametrize("kept", [1.0, 0.5])
def test_the_draws_have_the_share_of_their_epoch(kept: float):
    seen: list[Tensor] = []
    model = vit()
    model.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0].clone()))
    engine = engine_of(ard_prm(warmup=4, steps=1, kept=kept), model=model, epochs=8, steps_per_epoch=1)
    x, y = examples()
    for epoch in range(4):
        seen.clear()
        engine.step(x, y)
        masked = ((seen[0] - x) == 0).flatten(1).all(0).view(4, 2, 4, 2).all(3).all(1)
        assert int(masked.sum()) == int((1 - kept * (epoch + 1) / 4) * PATCHES)
        engine.end_epoch()


def test_a_patch_covers_its_pixels_row_by_row():
    patches = torch.tensor([[True, False, False, False, False, True]])
    assert pixels(patches, (2, 3), (1, 2)).long().tolist() == [[[1, 1, 0, 0, 0, 0], [0, 0, 0, 0, 1, 1]]]


@pytest.mark.parametrize(
    ("arch", "blocks", "patch"),
    [
        ("deit_tiny_patch16_224", 12, (16, 16)),
        ("convit_tiny", 12, (16, 16)),
        ("swin_tiny_patch4_window7_224", 12, (4, 4)),
    ],
)
def test_blocks_and_patches_of_other_transformers_of_timm_are_known(arch: str, blocks: int, patch: tuple[int, int]):
    with torch.device("meta"):
        model = timm.create_model(arch)
    assert (len(attention_branches(model)), patch_size(model)) == (blocks, patch)


def test_the_model_keeps_no_hook_and_its_training_forward_all_gradients():
    x, y = examples()
    model = vit()
    engine = engine_of(ard_prm(warmup=1000), model=model)
    engine.step(x, y)
    assert not any(module._forward_hooks for module in attention_branches(model))
    assert all(bool(block.attn.qkv.weight.grad.any()) for block in model.blocks)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {},
            r"plugin 'ard_prm' \([^)]*\): ard: expected a vision transformer of timm, .* "
            r"got ConvNet without one; take such a model, or ard: false",
        ),
        (
            {"ard": False},
            r"\): patch: expected a model with a patch embedding of timm, got ConvNet without one; name the",
        ),
        (
            {"ard": False, "patch": 3},
            r"\): expected images \[B,C,H,W\] that patches of 3x3 fill, got shape \[5, 1, 8, 8\]",
        ),
    ],
)
def test_a_model_that_is_no_transformer_is_refused(settings: dict[str, Any], message: str):
    x, y = examples()
    model = ConvNet().double()
    with pytest.raises(ButtressError, match=message):
        engine_of(ard_prm(**settings), model=model).step(x, y % 3)


def test_a_divergence_needs_a_start():
    with pytest.raises(ButtressError, match="loss kl is smallest at x itself"):
        engine_of(ard_prm(loss="kl", start="none"))


@pytest.mark.parametrize(
    "plugins",
    [
        [ard_prm(warmup=1), "piat"],
        [ard_prm(warmup=1, loss="kl", start="gaussian"), {"trades": {"beta": 6.0}}],
        [ard_prm(warmup=1), "mart", "piat"],
    ],
    ids=["PIAT+A&P", "TRADES-A&P", "MART-A&P, PIAT"],
)
def test_a_transformer_trains_from_a_config(
    plugins: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    options = {**SIZES, "depth": 2}
    config = {
        "name": "vit",
        "data": {"name": "npz", "path": "small.npz", "batch_size": 10},
        "model": {
            "name": "timm",
            "arch": "vit_tiny_patch16_224",
            "options": options,
            "normalize": {"mean": [0.5], "std": [0.5]},
        },
        "threat": {"norm": "linf", "eps": "1/10"},
        "plugins": plugins,
        "optimizer": {"name": "sgd", "lr": 0.1, "momentum": 0.9, "weight_decay": 1e-4},
        "epochs": 2,
        "evaluation": {"every": 2, "attack": {"pgd": {"steps": 2}}},
    }
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)
    x = {f"x_{split}": rng.random((20, 1, 8, 8), dtype=np.float32) for split in ("train", "val", "test")}
    np.savez("small.npz", **x, **{name.replace("x", "y"): np.arange(20) % 4 for name in x})
    Path("vit.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    assert main(["train", "vit.yaml", "--run", "a"]) == 0, capsys.readouterr().err
    assert Path("runs/vit/a/metrics.jsonl").exists()


def test_the_plugin_is_examined_on_the_bench_without_settings(capsys: pytest.CaptureFixture[str]):
    assert main(["plugins", "show", "ard_prm"]) == 0
    assert "+10 forwards, +10 backwards to the input a step" in capsys.readouterr().out
