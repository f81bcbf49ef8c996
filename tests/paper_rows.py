"""The rows of the tables of five papers, written by hand: what configs/papers/ has to hold."""

_MEAT = "at trades mart awp consistency idbh gairat seat wa idbh_wa meat meat_idbh"
_PIAT = "at alp trades mart mail cfa randomized_at piat_nmse"
_PIAT_WIDE = f"{_PIAT} piat piat_alp piat_trades piat_mart piat_mail"
_TRANSFORMER = "at ard_prm piat_ard_prm trades trades_ard_prm piat_trades_ard_prm mart mart_ard_prm piat_mart_ard_prm"
_REGULARISERS = "l1 l2 mixup cutout"
_RAT = "at rat_lr rat_wp"
_RAT_GROUPS = "trades trades_rat_wp_4 trades_rat_wp_34 trades_rat_wp_234 trades_rat_wp_1234"

# Folder to names of the recipes in it.
_STACKS = {
    "meat/cifar10/linf/wrn_34_10": f"{_MEAT} meat_trades meat_mart fat meat_fat",
    "meat/cifar100/linf/wrn_34_10": _MEAT,
    "piat/cifar10/linf/preact_resnet18": f"{_PIAT} nmse",
    "piat/cifar100/linf/preact_resnet18": f"{_PIAT} nmse",
    "piat/svhn/linf/preact_resnet18": _PIAT,
    "piat/cifar10/linf/wrn_32_10": _PIAT_WIDE,
    "piat/cifar100/linf/wrn_32_10": _PIAT_WIDE,
    "piat/cifar10/linf/convit_b": _TRANSFORMER,
    "piat/cifar10/linf/vit_b": _TRANSFORMER,
    "piat/cifar10/linf/deit_s": _TRANSFORMER,
    "amp/svhn/linf/preact_resnet18": "at amp",
    "amp/svhn/l2/preact_resnet18": "at amp",
    "amp/cifar10/linf/preact_resnet18": f"at amp {_REGULARISERS}",
    "amp/cifar10/l2/preact_resnet18": f"at amp {_REGULARISERS} at_regularisers",
    "amp/cifar100/linf/preact_resnet18": "at amp",
    "amp/cifar100/l2/preact_resnet18": "at amp",
    "amp/cifar10/linf/wrn_34_10": "at amp at_attacks amp_attacks trades trades_amp mart mart_amp pretraining "
    "pretraining_amp rst rst_amp",
    "amp/cifar100/linf/wrn_34_10": "at amp",
    "rwp/svhn/linf/preact_resnet18": "at awp rwp",
    "rwp/svhn/l2/preact_resnet18": "at awp rwp",
    "rwp/cifar10/linf/preact_resnet18": "at awp rwp",
    "rwp/cifar10/l2/preact_resnet18": "at awp rwp",
    "rwp/cifar100/linf/preact_resnet18": "at awp rwp",
    "rwp/cifar100/l2/preact_resnet18": "at awp rwp",
    "rwp/cifar10/linf/wrn_34_10": "at awp rwp trades trades_awp trades_rwp",
    "rwp/cifar10/linf/wrn_28_10": "rst rst_awp rst_rwp",
    "rat/svhn/linf/preact_resnet18": _RAT,
    "rat/svhn/l2/preact_resnet18": _RAT,
    "rat/svhn/linf/wrn_34_10": _RAT,
    "rat/svhn/l2/wrn_34_10": _RAT,
    "rat/cifar10/linf/preact_resnet18": f"{_RAT} awp {_RAT_GROUPS} fix_param fix_lr awp_layers",
    "rat/cifar10/l2/preact_resnet18": _RAT,
    "rat/cifar10/linf/wrn_34_10": f"{_RAT} awp",
    "rat/cifar10/l2/wrn_34_10": _RAT,
    "rat/cifar100/linf/preact_resnet18": _RAT,
    "rat/cifar100/l2/preact_resnet18": _RAT,
    "rat/cifar100/linf/wrn_34_10": _RAT,
    "rat/cifar100/l2/wrn_34_10": _RAT,
}
ROWS = {f"papers/{folder}/{stack}.yaml" for folder, stacks in _STACKS.items() for stack in stacks.split()}
"""Paths below configs/."""

TABLES = {
    ("meat", "comparison"): 24,
    ("meat", "ablation"): 6,
    ("piat", "ResNet-18"): 24,
    ("piat", "WRN-32-10"): 26,
    ("piat", "regularisers alone"): 4,
    ("piat", "vision transformers"): 27,
    ("amp", "data sets and norms"): 16,
    ("amp", "attacks on WRN-34-10"): 10,
    ("amp", "regularisers"): 12,
    ("rwp", "data sets and norms"): 18,
    ("rwp", "attacks on wide networks"): 9,
    ("rat", "data sets and networks"): 36,
    ("rat", "natural accuracy"): 6,
    ("rat", "TRADES by layer groups"): 5,
    ("rat", "sweep"): 3,
}
"""Paper and table to the number of its rows."""

PUBLISHED = {
    "meat/cifar10/linf/wrn_34_10/meat": {"clean best": 87.38, "pgd-20 last": 58.89, "aa best": 55.20},
    "meat/cifar100/linf/wrn_34_10/seat": {"clean last": 62.35, "pgd-20 best": 34.17, "aa last": 22.08},
    "meat/cifar10/linf/wrn_34_10/meat_trades": {"pgd-20 best": 59.24, "pgd-20 last": 59.11},
    "meat/cifar10/linf/wrn_34_10/meat_fat": {"clean last": 89.48, "pgd-20 best": 52.62},
    "piat/cifar10/linf/preact_resnet18/piat_nmse": {"clean best": 80.96, "cw last": 50.49, "aa last": 47.97},
    "piat/svhn/linf/preact_resnet18/randomized_at": {"pgd-20 best": 45.83, "cw best": 44.15, "aa best": 46.10},
    "piat/cifar100/linf/preact_resnet18/mail": {"clean best": 58.73, "pgd-20 last": 24.69, "aa last": 20.86},
    "piat/cifar100/linf/preact_resnet18/nmse": {"clean best": 58.88, "pgd-20 best": 29.55, "aa best": 24.82},
    "piat/cifar10/linf/wrn_32_10/piat_trades": {"clean best": 82.08, "pgd-20 best": 58.93, "aa best": 53.73},
    "piat/cifar100/linf/wrn_32_10/cfa": {"clean best": 63.37, "pgd-20 best": 33.89, "aa best": 28.98},
    "piat/cifar10/linf/convit_b/mart": {"clean": 63.61, "pgd-20": 42.51, "aa": 37.08},
    "piat/cifar10/linf/deit_s/piat_trades_ard_prm": {"clean": 83.43, "pgd-20": 53.31, "aa": 50.10},
    "amp/svhn/l2/preact_resnet18/amp": {"pgd-20 best": 72.36, "pgd-20 last": 67.86, "clean last": 94.76},
    "amp/cifar10/l2/preact_resnet18/at": {"pgd-20 best": 68.13, "pgd-20 last": 65.90},
    "amp/cifar10/l2/preact_resnet18/at_regularisers": {"pgd-20 best": 69.15, "pgd-20 last": 65.93},
    "amp/cifar10/linf/wrn_34_10/pretraining_amp": {"fgsm best": 65.63, "pgd-100 best": 58.61, "spsa best": 64.43},
    "amp/cifar10/linf/preact_resnet18/mixup": {"pgd-20 best": 52.83, "pgd-20 last": 49.76},
    "rwp/cifar100/linf/preact_resnet18/rwp": {"pgd-20 best": 31.17, "pgd-20 last": 30.64},
    "rwp/cifar10/linf/wrn_34_10/rwp": {"pgd-20 best": 62.87, "pgd-100 best": 62.87, "cw best": 56.62, "aa best": 54.61},
    "rwp/cifar10/linf/wrn_28_10/rst_awp": {"clean best": 88.25, "fgsm best": 67.94, "aa best": 60.05},
    "rat/cifar100/linf/wrn_34_10/rat_lr": {"pgd-20 best": 30.57, "pgd-20 last": 23.53, "aa last": 22.53},
    "rat/cifar10/linf/preact_resnet18/at": {"clean best": 81.16, "clean last": 84.44, "aa best": 47.95},
    "rat/cifar10/linf/wrn_34_10/awp": {"clean best": 85.30, "pgd-20 best": 58.35, "aa last": 53.49},
    "rat/cifar10/linf/preact_resnet18/trades_rat_wp_234": {"clean best": 81.89, "pgd-20 last": 54.91, "aa best": 51.24},
}
"""Some of the published numbers."""

ODD = {
    "piat/svhn/linf/preact_resnet18/randomized_at",
    "amp/cifar10/linf/wrn_34_10/trades_amp",
    "amp/cifar10/linf/wrn_34_10/pretraining",
    "amp/cifar10/linf/wrn_34_10/rst_amp",
}
"""Rows that have more accuracy under AutoAttack than under another attack, as printed."""
