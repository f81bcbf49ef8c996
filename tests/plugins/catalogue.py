"""The table of the built-in plugins: one row each, from which every test of all plugins takes what it needs.

A row has what a plugin is examined with, what it must refuse, what it costs, what it may stand beside, and the name of
the method's literal form. The order is that of a stack: attacks, losses, weight perturbations, ensembles, all others.
"""

from functools import partial
from typing import Any

import torch

from buttress.training.forecast import Passes
from buttress_plugins.models.preact_resnet import preact_tiny

from ..conformance import references as ref
from ..conformance import references_apgd as apgd
from ..conformance import references_classes as classes
from ..conformance import references_distillation as distillation
from ..conformance import references_gradients as gradients
from ..conformance import references_instances as instances
from ..conformance import references_labels as labels
from ..conformance import references_pillow as pillow
from ..conformance import references_randomized as randomized
from ..conformance import references_rst as rst
from ..conformance import references_single_step as single_step
from ..conformance import references_transforms as transforms
from ..conformance import references_views as views
from ..models import ConvNet, FourStages
from .row import Attack, Case, Layered, Row
from .teachers import files_of, pair_of

UNKNOWN = {"no_such_setting": 1}
WEIGHTS = [UNKNOWN, {"gamma": -0.1}, {"gamma": "big"}, {"start": 1.5}, {"exit_order": "never"}]
LAYERS = [UNKNOWN, {"layers": "3"}, {"groups": {"one": ["conv.*"]}}, {"head_group": 1.5}]

# Attacks beside which costs are counted; ten steps.
PGD: dict[str, Any] = {"pgd": {"steps": 10}}
KL: dict[str, Any] = {"pgd": {"steps": 10, "loss": "kl", "start": "gaussian"}}
AT = Passes(forwards=11, input_backwards=10, weight_backwards=1)  # ten attack steps, one training step
TWO_BRANCHES = Passes(12, 10, 2)  # the loss looks at x and at x'

# Attacks of the literal forms.
STEPS: dict[str, Any] = {"steps": ref.STEPS, "step_size": "3/100"}
BLANK: dict[str, Any] = {"cutout": {"size": 2}}
SHORT: dict[str, Any] = {"pgd": {"steps": ref.STEPS, "step_size": "3/100"}}
SHORT_KL: dict[str, Any] = {"pgd": {"steps": ref.STEPS, "step_size": "3/100", "loss": "kl", "start": "gaussian"}}

GRADIENT_START: dict[str, Any] = {"pgd": {**SHORT["pgd"], "start": "gradient", "attack_mode": "train"}}

# Layer groups of ``tests.models.ConvNet``, and of the networks of the literal forms.
GROUPS = {"1": ["conv.*"], "2": ["bn.*", "linear.*"]}
REFERENCE_GROUPS = {
    True: {"1": ["conv1.*", "bn1.*"], "2": ["conv2.*", "bn2.*", "linear.*"]},
    False: {"1": ["conv1.*"], "2": ["linear.*"]},
}

# Draws of the six examples of the literal forms.
PERMUTATION = torch.tensor([3, 0, 5, 1, 2, 4])
CORNERS = torch.tensor([[0, 0], [2, 1], [1, 2], [0, 2], [1, 0], [2, 2]])
CORNERS_OF_VIEWS = torch.cat([CORNERS, CORNERS.roll(1, 0)])
STEP_NOISE = torch.randn((ref.STEPS, 6, 1, 4, 4), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
MIRRORED = torch.tensor([True, False, True, False, False, True])
IDBH_DRAWS = {
    "idbh.flip": MIRRORED,
    "idbh.cut": torch.tensor([[0, 0], [1, 0], [0, 1], [0, 0], [1, 0], [0, 1]]),
    "idbh.start": torch.tensor([[0, 0], [1, 0], [0, 0], [0, 0], [0, 0], [0, 1]]),
    "idbh.end": torch.tensor([[0, 0], [0, 0], [0, 1], [0, 0], [1, 0], [0, 0]]),
    "idbh.operation": torch.tensor([2, 7, 4, 6, 1, 3]),
    "idbh.strength": torch.tensor([0.2, 0.95, 0.0, 0.9, 0.1, 0.8], dtype=torch.float64),
    "idbh.axis": ~MIRRORED,
    "idbh.sign": MIRRORED,
    "idbh.rectangle": torch.tensor(
        [[0, 0, 0, 0], [1, 1, 2, 1], [0, 0, 3, 3], [0, 0, 0, 0], [2, 3, 1, 1], [0, 0, 0, 0]]
    ),
}
AUTOAUGMENT_DRAWS = {
    "autoaugment.policy": torch.tensor([1, 4, 8, 12, 17, 23]),
    "autoaugment.chance": torch.tensor([[0.1, 0.2], [0.3, 0.9], [0.0, 0.1], [0.9, 0.0], [0.2, 0.2], [0.5, 0.6]]),
    "autoaugment.sign": torch.stack([MIRRORED, ~MIRRORED], 1),
    "autoaugment.centre": CORNERS,
}
NOISE = torch.linspace(-1, 1, 96, dtype=torch.float64)[torch.arange(96) * 29 % 96].view(6, 1, 4, 4)  # uniform
PATCHES = torch.tensor([[1, 1, 0, 1], [0, 1, 0, 0], [1, 0, 0, 1]], dtype=torch.bool)  # of each of three steps

MIXED_WEIGHTS = "the public code of AWP refuses Mixup, and nobody has measured the two together"
MIXED_COUNTS = "it counts where the model is right about the label, and a mixed input has two"
MIXED_STOP = "it stops where the model errs on the label, and a mixed input has two"
SOFT_MAIL = "its margin sets the label's class against the best other one, which soft labels do not name"
SOFT_RANDOMIZED = "its targets are made for a class, and a soft label is of several"
SOFT_MART = "MART sets the label's class against the best other one, which soft labels do not name"


# Which of the six examples are extra ones, and which have no label.
MARKS = {"extra": rst.EXTRA, "unlabelled": rst.UNLABELLED}


def layered(name: str, **settings: Any) -> Layered:
    return lambda conv: {name: {**settings, "groups": REFERENCE_GROUPS[conv]}}


def latter(name: str) -> bool:
    return not name.startswith(("conv1", "bn1"))


CFA: dict[str, Any] = {"begin": 1, "steps": ref.STEPS, "step_size": "3/100", "tau": 1}
PUBLIC_CFA: dict[str, Any] = {"clean_forwards": 2, "class_size": "mean"}
CLASSWISE = "CFA has a radius and a weight for every class, and a soft label is of several"

# Teachers of the networks of the literal forms, and files of those that other tests train.
TEACHERS = {kind: pair_of(lambda kind=kind: kind().double()) for kind in (ref.ConvNet, ref.MLP)}
LITERAL = {kind is ref.ConvNet: files_of(f"literal-{kind.__name__}-", pair) for kind, pair in TEACHERS.items()}
TINY = files_of("tiny-", pair_of(partial(preact_tiny, in_channels=1, num_classes=10, width=2)))
STAGES = files_of("stages-", pair_of(FourStages))

CATALOGUE: dict[str, Row] = {
    "pgd": Row(
        wrong=[
            UNKNOWN,
            {"steps": 0},
            {"step_size": "a/b"},
            {"loss": "cw"},
            {"restarts": 1.5},
            {"targets": "far"},
            {"early_stop": 1},
        ],
        pair={"steps": 2},
        place="attack",
        costs=[
            ([PGD], AT),
            ([{"pgd": {"steps": 10, "restarts": 2}}], Passes(23, 20, 1)),  # and a forward to choose after each
            ([{"pgd": {"steps": 10, "start": "gradient"}}], Passes(12, 11, 1)),
            ([{"pgd": {"steps": 4, "targets": "next"}}], Passes(6, 4, 1)),  # the targets are a forward
            ([{"pgd": {"steps": 10, "early_stop": True}}], AT),
            ([{"pgd": {"steps": 10, "early_stop": True, "loss": "objective"}}], Passes(21, 10, 1)),  # and its errors
        ],
        references={
            "AT": Case([SHORT], ref.plain()),
            "AT, stopped early": Case([{"pgd": {**STEPS, "early_stop": True}}], instances.fat(STEP_NOISE)),
            "AT, from the gradient": Case(
                [GRADIENT_START, {"cutout": {"size": 2}}],  # black pixels, from which gradients lead out of the box
                transforms.cutout(2, CORNERS, ref.from_gradient),
                {"cutout.position": CORNERS},
            ),
        },
    ),
    "apgd": Row(
        settings={"steps": 3},
        wrong=[
            UNKNOWN,
            {"steps": 0},
            {"loss": "cw"},
            {"targets": "nearest"},
            {"targets": 0},
            {"restarts": 0},
            {"attack_mode": "test"},
        ],
        pair={"steps": 2},
        place="attack",
        costs=[
            ([{"apgd": {"steps": 10}}], Passes(12, 11, 1)),
            ([{"apgd": {"steps": 10, "restarts": 2}}], Passes(23, 22, 1)),
            ([{"apgd": {"steps": 4, "targets": "least_likely"}}], Passes(7, 5, 1)),  # the targets are a forward
            ([{"apgd": {"steps": 4, "targets": 3}}], Passes(20, 15, 1)),  # and a margin after each run, to choose
        ],
        references={
            "APGD": Case([{"apgd": {"steps": 10}}], apgd.apgd(10)),
            "APGD, DLR": Case([{"apgd": {"steps": 5, "loss": "dlr"}}], apgd.apgd(5, apgd.dlr)),
            "APGD, DLR of the next class": Case(
                [{"apgd": {"steps": 4, "loss": "dlr", "targets": "next"}}],
                apgd.apgd(4, apgd.towards(lambda z, y: (y + 1) % 4)),
            ),
        },
    ),
    "fgsm": Row(
        wrong=[UNKNOWN, {"start": "gaussian"}, {"step_size": -1}, {"attack_mode": "test"}],
        place="attack",
        costs=[(["fgsm"], Passes(2, 1, 1))],
        references={"FGSM": Case(["fgsm"], ref.fgsm)},
    ),
    "fast": Row(
        wrong=[UNKNOWN, {"step_size": -1}, {"attack_mode": "test"}],
        place="attack",
        costs=[(["fast"], Passes(2, 1, 1))],
        references={"fast": Case(["fast"], single_step.fast(ref.EPS * NOISE), {"fast.start": ref.EPS * NOISE})},
    ),
    "n_fgsm": Row(
        wrong=[UNKNOWN, {"k": -1}, {"alpha": -1}, {"alpha": "far"}, {"attack_mode": "test"}],
        place="attack",
        costs=[(["n_fgsm"], Passes(2, 1, 1))],
        references={
            "N-FGSM": Case(["n_fgsm"], single_step.n_fgsm(2 * ref.EPS * NOISE), {"n_fgsm.noise": 2 * ref.EPS * NOISE})
        },
    ),
    "fat": Row(
        settings={"steps": 3, "rises": [0]},
        wrong=[
            UNKNOWN,
            {"steps": 0},
            {"tau": -1},
            {"rises": 50},
            {"omega": -0.1},
            {"loss": "margin"},
            {"start": "normal"},
        ],
        pair={"steps": 2, "tau": 1},
        place="attack",
        refuses={"mixup": MIXED_STOP, "cutmix": MIXED_STOP},
        costs=[
            ([{"fat": {"steps": 10}}], AT),
            ([{"fat": {"steps": 10, "loss": "kl", "start": "gaussian"}}, "trades"], Passes(13, 10, 2)),
        ],
        references={
            "FAT": Case(
                [{"fat": {**STEPS, "tau": 1, "omega": 0.02}}],
                instances.fat(STEP_NOISE, 1, 0.02),
                {"fat.noise": STEP_NOISE},
            ),
            "FAT, no patience, no noise": Case([{"fat": {**STEPS, "omega": 0.0}}], instances.fat(STEP_NOISE)),
            "FAT for TRADES": Case(
                [{"fat": {**STEPS, "loss": "kl", "start": "gaussian", "omega": 0.0}}, "trades"],
                instances.fat(STEP_NOISE, losses=ref.trades, loss="kl"),
            ),
            "FAT for MART": Case(
                [{"fat": {**STEPS, "tau": 1, "start": "gaussian", "omega": 0.0}}, "mart"],
                instances.fat(STEP_NOISE, 1, losses=ref.mart),
            ),
        },
    ),
    "gairat": Row(
        settings={"begin": 0, "steps": 3},
        wrong=[
            UNKNOWN,
            {"steps": 0},
            {"weighting": "exp"},
            {"variant": "mine"},
            {"lam": "inf"},
            {"begin": -1},
            {"loss": "margin"},
        ],
        pair={"begin": 0, "steps": 2},
        place="attack",
        refuses={"mixup": MIXED_COUNTS, "cutmix": MIXED_COUNTS},
        costs=[
            ([{"gairat": {"steps": 10}}], AT),
            ([{"gairat": {"steps": 10, "loss": "kl"}}, "trades"], Passes(13, 10, 2)),
        ],
        references={
            f"GAIRAT, {weighting}": Case(
                [{"gairat": {**STEPS, "begin": 0, "weighting": weighting}}], instances.gairat(weighting)
            )
            for weighting in ("tanh", "sigmoid", "linear")
        }
        | {
            "GAIRAT, official": Case(
                [{"gairat": {**STEPS, "begin": 0, "variant": "official"}}],
                instances.gairat("tanh", half=ref.STEPS // 2),
            )
        },
    ),
    "free_at": Row(
        wrong=[UNKNOWN, {"step_size": -1}, {"step_size": "far"}],
        place="attack",
        costs=[(["free_at"], Passes(1, 0, 1))],  # the gradient to the inputs comes out of the step's own backward
        references={
            "Free AT": Case(["free_at"], single_step.free_at()),
            "Free AT, short steps": Case([{"free_at": {"step_size": "1/50"}}], single_step.free_at(step_size=0.02)),
        },
        stateful=True,
    ),
    "ard_prm": Row(
        settings={"ard": False, "patch": 4},
        wrong=[
            UNKNOWN,
            {"steps": 0},
            {"patch": 0},
            {"warmup": -1},
            {"kept": 1.1},
            {"start": "far"},
            {"loss": "nothing"},
            {"ard": 2},
        ],
        on_conv_net={"patch": 2},
        pair={"ard": False, "patch": 2, "steps": 2, "warmup": 4},
        place="attack",
        costs=[([{"ard_prm": {"ard": False, "patch": 2}}], AT)],
        references={  # ARD needs a transformer: tests/plugins/test_ard_prm.py
            "PRM": Case(
                [{"ard_prm": {**SHORT["pgd"], "ard": False, "patch": 2}}],
                single_step.masked_pgd(ref.EPS * NOISE, PATCHES, 2),
                {"ard_prm.start": ref.EPS * NOISE, "ard_prm.patches": PATCHES},
            )
        },
    ),
    "cfa": Row(
        settings={"begin": 1, "steps": 2},
        wrong=[
            UNKNOWN,
            {"num_classes": 1},
            {"mode": "mart"},
            {"lambda1": -0.1},
            {"lambda2": "half"},
            {"beta": -1},
            {"ccm": 1},
            {"ccr": 1},
            {"begin": -1},
            {"tau": -1},
            {"steps": 0},
            {"step_size": "a/b"},
            {"clean_forwards": 3},
            {"class_size": "largest"},
            {"attack_mode": "test"},
        ],
        pair={"num_classes": 10, "begin": 1, "steps": 2},
        place=("attack", "loss"),
        refuses={"mixup": CLASSWISE, "cutmix": CLASSWISE, "label_smoothing": CLASSWISE},
        costs=[
            ([{"cfa": {"steps": 10}}], Passes(13, 10, 2)),
            ([{"cfa": {"steps": 10, "clean_forwards": 2}}], Passes(14, 10, 3)),
            ([{"cfa": {"steps": 10, "mode": "fat"}}], AT),
        ],
        references={
            f"CFA, {mode}{', public code' * public}": Case(
                [{"cfa": {"num_classes": 4, "mode": mode, **CFA, **(PUBLIC_CFA if public else {})}}],
                classes.cfa(mode, 0.05 * NOISE, public=public),
                {"cfa.start": 0.05 * NOISE},
                end=ref.nothing,
            )
            for mode, public in (("trades", False), ("at", False), ("fat", False), ("trades", True))
        },
        stateful=True,
    ),
    "clean": Row(
        wrong=[UNKNOWN],
        place="attack",
        costs=[(["clean"], Passes(1, 0, 1))],
        references={"natural training": Case(["clean"], ref.natural)},
    ),
    "cross_entropy": Row(
        wrong=[UNKNOWN, {"label_smoothing": 1.5}, {"label_smoothing": -0.1}],
        place="loss",
        costs=[([PGD, "cross_entropy"], AT)],
        references={
            "AT, its loss named": Case([SHORT, "cross_entropy"], ref.plain()),
            "AT, smoothed in the loss": Case(
                [SHORT, {"cross_entropy": {"label_smoothing": 0.3}}], ref.plain(ref.smoothed_at)
            ),
        },
    ),
    "trades": Row(
        wrong=[UNKNOWN, {"beta": -1}, {"clean_forwards": 3}, {"label_smoothing": 2}],
        place="loss",
        costs=[
            ([KL, "trades"], Passes(13, 10, 2)),  # the attack's clean prediction is a forward too
            ([KL, {"trades": {"clean_forwards": 2}}], Passes(14, 10, 3)),
            ([KL, "trades", "awp"], Passes(15, 10, 4)),
        ],
        references={
            "TRADES": Case([SHORT_KL, "trades"], ref.plain(ref.trades, "kl")),
            "TRADES, smoothed": Case(
                [SHORT_KL, {"trades": {"beta": 5.0, "label_smoothing": 0.1}}], ref.plain(ref.smoothed_trades, "kl")
            ),
            "TRADES, two forwards": Case(
                [SHORT_KL, {"trades": {"clean_forwards": 2}}], ref.plain(ref.trades_two_forwards, "kl")
            ),
        },
    ),
    "rst": Row(
        wrong=[UNKNOWN, {"beta": -1}, {"unlabelled_weight": -1}, {"adv_first": 2}],
        place="loss",
        data={"unlabelled_per_class": 1, "extra": {"share": "2/5"}},
        costs=[([KL, "rst"], Passes(13, 10, 2)), ([KL, "rst", "awp"], Passes(15, 10, 4))],
        references={
            "RST": Case([SHORT_KL, "rst"], rst.rst(), aux=MARKS),
            "RST, weighted": Case(
                [SHORT_KL, {"rst": {"beta": 5.0, "unlabelled_weight": 0.3}}], rst.rst(5.0, 0.3), aux=MARKS
            ),
            "RST, all labelled": Case(
                [SHORT_KL, {"rst": {"unlabelled_weight": 0.3}}],
                rst.rst(lam=0.3, unlabelled=rst.ALL_LABELLED),
                aux={"extra": rst.EXTRA, "unlabelled": rst.ALL_LABELLED},
            ),
            "RST, adversarial first": Case(
                [SHORT_KL, {"rst": {"adv_first": True}}], rst.rst(adv_first=True), aux=MARKS
            ),
            "RST, nothing marked": Case([SHORT_KL, "rst"], ref.plain(ref.trades, "kl")),
        },
    ),
    "mart": Row(
        wrong=[UNKNOWN, {"lam": -1}, {"label_smoothing": 0.1}],
        place="loss",
        costs=[([PGD, "mart"], TWO_BRANCHES)],
        references={"MART": Case([SHORT, "mart"], ref.plain(ref.mart))},
    ),
    "mail": Row(
        settings={"start": 0},
        wrong=[
            UNKNOWN,
            {"form": "alp"},
            {"beta": -1.0},
            {"slope": 0.0},
            {"bias": "inf"},
            {"scale": 0.0},
            {"normalize": 1},
            {"start": -1},
        ],
        pair={"start": 0},
        place="loss",
        refuses={"mixup": SOFT_MAIL, "cutmix": SOFT_MAIL, "label_smoothing": SOFT_MAIL},
        costs=[
            ([PGD, {"mail": {"start": 0}}], TWO_BRANCHES),
            ([PGD, {"mail": {"start": 0, "form": "at"}}], AT),
            ([PGD, {"mail": {"start": 0, "form": "mart"}}], TWO_BRANCHES),
        ],
        references={
            "MAIL-AT": Case(
                [SHORT, {"mail": {"form": "at", "start": 0, "slope": 10.0, "bias": 0.5}}],
                instances.mail("at", 5.0, 10.0, 0.5),
            ),
            "MAIL-TRADES": Case([SHORT_KL, {"mail": {"start": 0}}], instances.mail("trades", 5.0, 1.0, -1.5)),
            "MAIL-MART, normalized": Case(
                [SHORT, {"mail": {"form": "mart", "start": 0, "slope": 2.0, "bias": 0.0, "normalize": True}}],
                instances.mail("mart", 5.0, 2.0, 0.0, normalize=True),
            ),
        },
    ),
    "randomized_at": Row(
        wrong=[
            UNKNOWN,
            {"alpha": 1.5},
            {"beta": -1.0},
            {"share": 2},
            {"second_order": "third"},
            {"noise": -1.0},
            {"noise_on": "all"},
            {"forwards_each": 2},
        ],
        place="loss",
        refuses={"mixup": SOFT_RANDOMIZED, "cutmix": SOFT_RANDOMIZED, "label_smoothing": SOFT_RANDOMIZED},
        costs=[
            ([KL, "randomized_at"], Passes(13, 10, 2)),
            # All but the two for the gradients of the last layer have a backward; the clean one of these has it too.
            ([KL, {"randomized_at": {"forwards_each": 4}}], Passes(19, 10, 7)),
        ],
        references={
            "randomized AT": Case([SHORT_KL, {"randomized_at": {"noise": 0.0}}], randomized.randomized_at()),
            "randomized AT, intended": Case(
                [SHORT_KL, {"randomized_at": {"noise": 0.0, "second_order": "intended"}}],
                randomized.randomized_at(intended=True),
            ),
            "randomized AT, a forward for each term": Case(
                [SHORT_KL, {"randomized_at": {"noise": 0.0, "forwards_each": 4}}], randomized.randomized_at(apart=True)
            ),
        },
    ),
    "kd": Row(
        wrong=[
            UNKNOWN,
            {"standard": 3},
            {"robust": "no/such/file.pt"},
            {"ce": -1.0},
            {"standard_weight": -1.0},
            {"robust_weight": "much"},
            {"temperature": 0},
        ],
        on_conv_net=files_of("small-", pair_of(ConvNet)),
        pair={**STAGES, "temperature": 1.0},
        place="loss",
        costs=[([PGD, {"kd": TINY}], AT)],  # two forwards of the teachers besides, which are other models
        references={"KD": Case([SHORT, lambda conv: {"kd": LITERAL[conv]}], distillation.kd(TEACHERS))},
    ),
    "nmse": Row(
        wrong=[UNKNOWN, {"mu": -1}, {"detach_weight": "no"}],
        place="loss",
        costs=[([PGD, "nmse"], TWO_BRANCHES)],
        references={
            "NMSE": Case([SHORT, "nmse"], ref.plain(ref.nmse)),
            "NMSE, detached": Case(
                [SHORT, {"nmse": {"mu": 2.0, "detach_weight": True}}], ref.plain(partial(ref.nmse, mu=2.0, detach=True))
            ),
        },
    ),
    "alp": Row(
        wrong=[UNKNOWN, {"weight": -1}, {"mixed": 1}],
        place="loss",
        costs=[([PGD, "alp"], TWO_BRANCHES)],
        references={
            "ALP": Case([SHORT, "alp"], ref.plain(ref.alp)),
            "ALP, mixed": Case([SHORT, {"alp": {"mixed": True}}], ref.plain(partial(ref.alp, mixed=True))),
        },
    ),
    "amp": Row(
        settings={"steps": 2},
        wrong=[
            UNKNOWN,
            {"delta": -1.0},
            {"ball": "layer"},
            {"steps": 0},
            {"xi": 0.0},
            {"clip_norm": 0.0},
            {"bn_update": "first"},
            {"reattack_final": 2},
            {"start": -1},
        ],
        place="perturbation",
        costs=[
            ([PGD, "amp"], Passes(12, 10, 2)),  # N = 1 uses the step's own attack
            ([PGD, {"amp": {"steps": 2}}], Passes(23, 20, 3)),
            ([PGD, {"amp": {"steps": 2, "reattack_final": True}}], Passes(33, 30, 3)),
        ],
        references={
            "AMP": Case([SHORT, {"amp": {"delta": 0.3}}], ref.amp(0.3)),
            "AMP, inside the ball": Case([SHORT, {"amp": {"delta": 1e3, "xi": 0.5}}], ref.amp(1e3, xi=0.5)),
            "AMP, N = 3": Case([SHORT, {"amp": {"delta": 0.5, "steps": 3, "xi": 0.4}}], ref.amp(0.5, 3, 0.4)),
            "AMP, per tensor, all batch norms": Case(
                [SHORT, {"amp": {"delta": 0.1, "steps": 2, "ball": "per_tensor", "bn_update": "all"}}],
                ref.amp(0.1, 2, per_tensor=True, bn_all=True),
            ),
            "AMP, re-attack, clipped": Case(
                [SHORT, {"amp": {"delta": 0.3, "steps": 2, "reattack_final": True, "clip_norm": 0.2}}],
                ref.amp(0.3, 2, reattack_final=True, clip=0.2),
            ),
            "AMP with TRADES": Case(
                [SHORT_KL, "trades", {"amp": {"delta": 0.3, "steps": 2}}],
                ref.amp(0.3, 2, losses=ref.trades, attack="kl"),
            ),
        },
    ),
    "awp": Row(
        wrong=[*WEIGHTS, {"tensors": "convolutions"}, {"norm": "l2"}, {"lsc": [1.0]}],
        pair={"gamma": 0.05},
        place="perturbation",
        costs=[
            ([PGD, "awp"], Passes(12, 10, 2)),
            ([PGD, {"awp": {"gamma": 0.0}}], AT),
        ],
        references={
            "AWP": Case([SHORT, {"awp": {"gamma": 0.05}}], ref.awp(0.05)),
            "AWP, restored": Case(
                [SHORT, {"awp": {"gamma": 0.05, "exit_order": "restore_then_step"}}],
                ref.awp(0.05, finish=ref.step_at_restored),
            ),
            "AWP, all, global": Case(
                [SHORT, {"awp": {"gamma": 0.05, "tensors": "all", "norm": "global"}}],
                ref.awp(0.05, every=True, one_norm=True),
            ),
            "AWP, LSC": Case([SHORT, {"awp": {"gamma": 0.05, "lsc": [1.0, 1.6]}}], ref.awp(0.05, lsc=(1.0, 1.6))),
            "AWP with TRADES": Case([SHORT_KL, "trades", {"awp": {"gamma": 0.05}}], ref.awp(0.05, ref.trades, "kl")),
            "AWP with MART": Case([SHORT, "mart", {"awp": {"gamma": 0.05}}], ref.awp(0.05, ref.mart)),
        },
    ),
    "rwp": Row(
        settings={"c_min": "inf", "k2": 2},
        wrong=[
            *WEIGHTS,
            {"c_min": -1},
            {"c_min": "all"},
            {"k2": 0},
            {"variant": "mine"},
            {"norm": "l2"},
            {"inclusive": 1},
            {"accumulate": "mean"},
        ],
        pair={"gamma": 0.05, "c_min": "inf", "k2": 2},
        place="perturbation",
        costs=[
            ([PGD, {"rwp": {"c_min": "inf", "k2": 10}}], Passes(21, 10, 11)),
            ([PGD, {"rwp": {"c_min": "inf", "k2": 3}}], Passes(14, 10, 4)),
            ([PGD, {"rwp": {"c_min": 0.0, "k2": 10}}], Passes(12, 10, 1)),  # one look: nobody is easy
        ],
        references={
            "RWP": Case([SHORT, {"rwp": {"gamma": 0.05, "c_min": 1.4, "k2": 3}}], ref.rwp(0.05)),
            "RWP, layer": Case(
                [SHORT, {"rwp": {"gamma": 0.05, "c_min": 1.4, "k2": 3, "norm": "layer"}}], ref.rwp(0.05, layerwise=True)
            ),
            "RWP, official": Case(
                [SHORT, {"rwp": {"gamma": 0.05, "c_min": 1.4, "k2": 3, "variant": "official"}}],
                ref.rwp(0.05, official=True),
            ),
            "RWP, all": Case(
                [SHORT, {"rwp": {"gamma": 0.05, "c_min": "inf", "k2": 4}}], ref.rwp(0.05, torch.inf, 4)
            ),
            "RWP with TRADES": Case(
                [SHORT_KL, "trades", {"rwp": {"gamma": 0.05, "c_min": 1.6, "k2": 2}}],
                ref.rwp(0.05, 1.6, 2, losses=ref.trades, attack="kl"),
            ),
        },
    ),
    "rat_wp": Row(
        wrong=[*WEIGHTS, *LAYERS],
        on_conv_net={"layers": [2], "groups": GROUPS},
        pair={"gamma": 0.05},
        place="perturbation",
        costs=[([PGD, "rat_wp"], Passes(12, 10, 2))],
        references={"RAT_WP": Case([SHORT, layered("rat_wp", gamma=0.05, layers=[2])], ref.awp(0.05, only=latter))},
    ),
    "piat": Row(
        wrong=[
            UNKNOWN,
            {"lam": 1.5},
            {"a": 1.1},
            {"b": -1},
            {"c": "ten"},
            {"n0": 2},
            {"buffers": "live"},
            {"skip_first": 1},
        ],
        costs=[([PGD, "piat"], AT)],
        references={"PIAT": Case([SHORT, "piat"], ref.plain(), end=ref.piat([1 / 10, 2 / 11, 3 / 12]))},
        stateful=True,
    ),
    "meat": Row(
        settings={"start": 0},
        wrong=[
            UNKNOWN,
            {"start": -1},
            {"start": 1.0},
            {"start": True},
            {"median": "middle"},
            {"bn_data": "test"},
            {"history": "ram"},
            {"memory_gib": 0},
            {"track": 3},
        ],
        on_conv_net={"history": "memory"},
        pair={"start": 0, "history": "memory"},
        costs=[([PGD, {"meat": {"start": 0}}], AT)],
        references={"MEAT": Case([SHORT, {"meat": {"start": 0, "history": "memory"}}], ref.plain(), end=ref.meat)},
        stateful=True,
    ),
    "ema": Row(
        settings={"tau": 0.5},
        wrong=[
            UNKNOWN,
            {"tau": 1.1},
            {"tau": -0.1},
            {"start": -1},
            {"start": 1.5},
            {"start_step": -1},
            {"start_step": 0.5},
            {"warmup": 1},
            {"buffers": "live"},
        ],
        pair={"tau": 0.5},
        costs=[([PGD, "ema"], AT)],
        references={"EMA": Case([SHORT, {"ema": {"tau": 0.8, "warmup": False}}], ref.ema(0.8), end=ref.nothing)},
        stateful=True,
    ),
    "swa": Row(
        settings={"start": 0},
        wrong=[UNKNOWN, {"start": 0.0}, {"start": "0"}],
        pair={"start": 0},
        costs=[([PGD, "swa"], AT), ([PGD, "piat", {"meat": {"start": 0}}, "ema", "swa"], AT)],
        references={"SWA": Case([SHORT, {"swa": {"start": 0}}], ref.plain(), end=ref.swa)},
        stateful=True,
    ),
    "fawa": Row(
        settings={"threshold": 0.0},
        wrong=[UNKNOWN, {"decay": 1.1}, {"decay": -0.1}, {"threshold": 2.0}, {"attack": "cw"}, {"track": 3}],
        pair={"threshold": 0.0},
        costs=[([PGD, "fawa"], AT)],
        references={
            f"FAWA, threshold {threshold}": Case(
                [{"pgd": {**SHORT["pgd"], "start": "none"}}, {"fawa": {"decay": 0.6, "threshold": threshold}}],
                ref.plain(),
                end=classes.fawa(0.6, threshold),
            )
            for threshold in (0.0, 0.1)
        },
        stateful=True,
    ),
    "drop_easy": Row(
        settings={"c_min": 2.3},
        wrong=[UNKNOWN, {"c_min": -1}, {"mean_over": "all"}],
        on_conv_net={"c_min": 0.5},
        pair={"c_min": 2.2},
        costs=[([PGD, {"drop_easy": {"c_min": 1.0}}], AT)],
        references={
            "drop easy": Case([SHORT, {"drop_easy": {"c_min": 1.3}}], ref.drop_easy(1.3, True)),
            "drop easy, batch": Case(
                [SHORT, {"drop_easy": {"c_min": 1.3, "mean_over": "batch"}}], ref.drop_easy(1.3, False)
            ),
        },
    ),
    "grad_align": Row(
        wrong=[UNKNOWN, {"lam": -1}, {"variant": "mine"}],
        costs=[
            # Two gradients and the second-order backwards of both, which all pass where weights require gradients.
            (["fgsm", "grad_align"], Passes(4, 1, 5)),
            (["fgsm", {"grad_align": {"variant": "official"}}], Passes(4, 1, 4)),
            (["fgsm", "grad_align", "awp"], Passes(5, 1, 6)),
            (["fgsm", {"grad_align": {"lam": 0.0}}], Passes(2, 1, 1)),
        ],
        references={
            f"FGSM and GradAlign, {variant}": Case(
                ["fgsm", {"grad_align": {"lam": 0.5, "variant": variant}}],
                single_step.grad_align(ref.EPS * NOISE, 0.5, variant == "official"),
                {"grad_align.eta": ref.EPS * NOISE},
            )
            for variant in ("paper", "official")
        },
    ),
    "rat_lr": Row(
        settings={"form": "corrected"},
        wrong=[*LAYERS, {"form": "both"}, {"lr": 0.0}],
        on_conv_net={"layers": [2], "groups": GROUPS},
        costs=[([PGD, "rat_lr"], AT), ([PGD, {"rat_lr": {"form": "corrected"}}], AT)],
        references={
            "RAT_LR": Case([SHORT, layered("rat_lr", layers=[2])], ref.fixed_lr(latter, 0.1), factor=0.1),
            "RAT_LR, corrected": Case(
                [SHORT, layered("rat_lr", layers=[2], form="corrected")], ref.fixed_lr(latter, 0.1), factor=0.1
            ),
        },
        stateful=True,
    ),
    "freeze_layers": Row(
        wrong=[*LAYERS, {"freeze_bn": "yes"}],
        on_conv_net={"layers": [1], "groups": GROUPS},
        pair={"layers": [1]},
        costs=[([PGD, {"freeze_layers": {"layers": [1, 2]}}], AT)],
        references={"AT-fix-param": Case([SHORT, layered("freeze_layers", layers=[2])], ref.frozen(latter))},
    ),
    "l1": Row(
        wrong=[UNKNOWN, {"weight": -1}],
        pair={"weight": 1e-3},
        costs=[([PGD, "l1"], AT)],
        references={"L1": Case([SHORT, {"l1": {"weight": 1e-2}}], ref.l1(1e-2))},
    ),
    "l2_groups": Row(
        wrong=[UNKNOWN, {"weight_decay": -1}, {"legacy_lr": 1}],
        pair={"weight_decay": 0.1},
        costs=[([PGD, "l1", "l2_groups"], AT)],
        references={"L2": Case([SHORT, {"l2_groups": {"weight_decay": 5e-2}}], ref.l2(5e-2))},
    ),
    "clip_grad": Row(
        settings={"norm": 0.1},
        wrong=[UNKNOWN, {"norm": 0.0}, {"value": -1.0}, {"value": "big"}],
        pair={"norm": 0.1},
        costs=[([PGD, "clip_grad"], AT)],
        references={
            "clipped to a norm": Case([SHORT, {"clip_grad": {"norm": 0.2}}], gradients.clipped(to_norm=0.2)),
            "clipped to a value": Case(
                [SHORT, {"clip_grad": {"norm": None, "value": 0.01}}], gradients.clipped(to_value=0.01)
            ),
            "clipped to a value, then to a norm": Case(
                [SHORT, {"clip_grad": {"norm": 0.05, "value": 0.02}}], gradients.clipped(to_norm=0.05, to_value=0.02)
            ),
        },
    ),
    "mixup": Row(
        wrong=[UNKNOWN, {"num_classes": 1}, {"alpha": 0.0}, {"probability": 1.1}],
        pair={"num_classes": 10},
        refuses={"awp": MIXED_WEIGHTS, "rwp": MIXED_WEIGHTS, "rat_wp": MIXED_WEIGHTS, "mart": SOFT_MART},
        costs=[([PGD, "mixup"], AT)],
        references={
            "Mixup": Case(
                [SHORT, {"mixup": {"num_classes": 4}}],
                transforms.mixup(0.7, PERMUTATION),
                {"mixup.lam": torch.tensor(0.7, dtype=torch.float64), "mixup.permutation": PERMUTATION},
            ),
            **{
                f"Mixup of {share} of the batches": Case(
                    [SHORT, {"mixup": {"num_classes": 4, "probability": share}}],
                    step,
                    {
                        "mixup.lam": torch.tensor(0.7, dtype=torch.float64),
                        "mixup.permutation": PERMUTATION,
                        "mixup.chance": torch.tensor(0.3),
                    },
                )
                for share, step in ((0.2, ref.plain()), (0.4, transforms.mixup(0.7, PERMUTATION)))
            },
        },
    ),
    "label_smoothing": Row(
        wrong=[UNKNOWN, {"num_classes": 1}, {"epsilon": 1.1}, {"epsilon": -0.1}],
        pair={"num_classes": 10},
        refuses={"mart": SOFT_MART},
        costs=[([PGD, "label_smoothing"], AT)],
        references={
            "label smoothing": Case(
                [SHORT, {"label_smoothing": {"num_classes": 4, "epsilon": 0.3}}], labels.smoothed(0.3)
            )
        },
    ),
    "cutmix": Row(
        wrong=[UNKNOWN, {"num_classes": 1}, {"alpha": 0.0}, {"probability": -0.1}, {"mixup_alpha": -1.0}],
        pair={"num_classes": 10},
        refuses={"awp": MIXED_WEIGHTS, "rwp": MIXED_WEIGHTS, "rat_wp": MIXED_WEIGHTS, "mart": SOFT_MART},
        costs=[([PGD, "cutmix"], AT)],
        references={
            "CutMix": Case(
                [SHORT, {"cutmix": {"num_classes": 4}}],
                transforms.cutmix(0.6, PERMUTATION, (0, 2)),
                {
                    "cutmix.lam": torch.tensor(0.6, dtype=torch.float64),
                    "cutmix.permutation": PERMUTATION,
                    "cutmix.centre": torch.tensor([0, 2]),
                },
            ),
            **{
                f"CutMix or Mixup, {name}": Case(
                    [SHORT, {"cutmix": {"num_classes": 4, "probability": 0.3, "mixup_alpha": 0.8}}],
                    step,
                    {
                        "cutmix.lam": torch.tensor(0.6, dtype=torch.float64),
                        "cutmix.permutation": PERMUTATION,
                        "cutmix.centre": torch.tensor([0, 2]),
                        "cutmix.chance": torch.tensor(chance),
                    },
                )
                for name, chance, step in (
                    ("neither", [0.3, 0.7], ref.plain()),
                    ("CutMix", [0.2, 0.4], transforms.cutmix(0.6, PERMUTATION, (0, 2))),
                    ("Mixup", [0.2, 0.5], transforms.mixup(0.6, PERMUTATION)),
                )
            },
        },
    ),
    "consistency": Row(
        wrong=[UNKNOWN, {"lam": -1.0}, {"temperature": 0.0}, {"term": "whole"}],
        costs=[([PGD, "consistency"], AT), ([PGD, "consistency", "trades"], TWO_BRANCHES)],
        references={
            "CCG": Case(
                ["fgsm", "consistency", BLANK],
                views.consistency(CORNERS_OF_VIEWS, 2),
                {"cutout.position": CORNERS_OF_VIEWS},
            ),
            "CCG of TRADES, as a penalty": Case(
                ["fgsm", {"consistency": {"lam": 2.0, "temperature": 1.5, "term": "penalty"}}, BLANK, "trades"],
                views.consistency(CORNERS_OF_VIEWS, 2, 2.0, 1.5, ref.trades),
                {"cutout.position": CORNERS_OF_VIEWS},
            ),
        },
    ),
    "cutout": Row(
        settings={"size": 4},
        wrong=[UNKNOWN, {"size": 0}, {"value": "black"}],
        on_conv_net={"size": 2},
        pair={"size": 3},
        costs=[([PGD, "mixup", "augment", {"cutout": {"size": 3}}], AT)],
        references={
            "Cutout": Case(
                [SHORT, {"cutout": {"size": 2}}], transforms.cutout(2, CORNERS), {"cutout.position": CORNERS}
            )
        },
    ),
    "augment": Row(
        settings={"pad": 1, "rotation": 15.0},
        wrong=[UNKNOWN, {"pad": -1}, {"padding": "ones"}, {"flip": 1}, {"rotation": 181.0}],
        pair={"pad": 1},
        costs=[([PGD, "augment"], AT)],
        references={
            f"crops and flips, {padding}": Case(
                [SHORT, {"augment": {"pad": 1, "padding": padding}}],
                transforms.augment(1, padding, CORNERS, MIRRORED),
                {"augment.crop": CORNERS, "augment.flip": MIRRORED},
            )
            for padding in ("reflect", "zeros")
        },
    ),
    "autoaugment": Row(
        settings={"start": 0, "cutout": 2},
        wrong=[UNKNOWN, {"policy": "digits"}, {"start": 1.5}, {"cutout": -1}],
        pair={"start": 0, "cutout": 2},
        costs=[([PGD, "autoaugment"], AT)],
        references={
            "AutoAugment": Case(
                [SHORT, {"autoaugment": {"start": 0, "cutout": 2}}],
                pillow.autoaugment(AUTOAUGMENT_DRAWS, 2),
                AUTOAUGMENT_DRAWS,
            )
        },
    ),
    "idbh": Row(
        settings={"max_shift": 2},
        wrong=[UNKNOWN, {"variant": "medium"}, {"flip": 1}, {"max_shift": -1}, {"erase": 1.5}],
        on_conv_net={"max_shift": 1},
        pair={"max_shift": 2},
        costs=[([PGD, {"idbh": {"max_shift": 2}}], AT)],
        references={"IDBH": Case([SHORT, {"idbh": {"max_shift": 1}}], pillow.idbh(IDBH_DRAWS), IDBH_DRAWS)},
    ),
}  # fmt: skip

ATTACKS: dict[str, Attack] = {
    "apgd": Attack({"steps": 3}, [UNKNOWN, {"steps": 0}, {"targets": "far"}, {"loss": "kl", "targets": "all"}]),
    "autoattack": Attack({}, [UNKNOWN, {"num_classes": 3}]),
    "clean": Attack({}, [UNKNOWN]),
    "cw": Attack(
        {"steps": 3},
        [UNKNOWN, {"steps": 0}, {"step_size": -1}, {"kappa": -1.0}, {"start": "gaussian"}, {"early_stop": "no"}],
    ),
    "fgsm": Attack({"start": "uniform"}, [UNKNOWN, {"start": "gaussian"}]),
    "ifgsm": Attack({"steps": 3}, [UNKNOWN, {"steps": 0}, {"step_size": "a/b"}, {"early_stop": 1}]),
    "mifgsm": Attack({"steps": 3}, [UNKNOWN, {"steps": 0}, {"decay": -0.1}, {"start": "gaussian"}, {"early_stop": 2}]),
    "pgd": Attack({"steps": 3}, [UNKNOWN, {"steps": 0}]),
    "spsa": Attack(
        {"steps": 2, "samples": 8},
        [UNKNOWN, {"steps": 0}, {"samples": 0}, {"radius": 0.0}, {"lr": 0.0}, {"forward_size": 1}],
    ),
}
"""Every built-in attack of evaluations."""


def stack_of(name: str) -> list[Any]:
    """The smallest stack in which a plugin works on ``tests.models.ConvNet``, as a config lists it."""
    row = CATALOGUE[name]
    entry = {name: {**row.settings, **row.on_conv_net}}
    return [entry] if "attack" in row.places else ["fgsm", entry]
