"""The recipes under configs/, a module for each lineage of settings; ``scripts/recipes.py`` writes them.

    ro             Rice et al. (robust overfitting) and what builds on it: AMP, AWP, RWP, RAT, regularisers, CFA
    meat           MEAT's WideResNet: MEAT, IDBH, CCG
    trades         TRADES and the codes that began as its copies: MART, FAT, GAIRAT, MAIL, Randomized AT
    self_training  RST, on labelled and pseudo-labelled images
    piat           PIAT, NMSE, ALP
    single_step    FGSM-RS, N-FGSM, GradAlign, free AT
    vit            vision transformers: AT, TRADES, MART, with ARD and PRM, and with PIAT
    pretraining    fine-tuning of a pre-trained network, on digits and CIFAR
    kd_swa         a student of two teachers, on digits and CIFAR
    digits         every method on label-noise digits, for ``make compare``
    synthetic      TRADES with noisy copies that a run has labelled, for ``make compare-synthetic``
    mnist5k        five of them on MNIST's digits with label noise, for ``make compare-mnist5k``
    photos         PGD-AT on crops of photographs
    tables         every row of every table of five papers, in the setting of that paper

    recipe, papers parts of all of them: a recipe as text, numbers that papers publish

A module has ``recipes()``. Settings are those of the methods' papers and public codes. Published numbers stand in
``targets``: nobody has measured them here.
"""
