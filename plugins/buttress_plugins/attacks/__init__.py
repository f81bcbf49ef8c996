"""Adversarial attacks: plugins that provide ``generate_adv``, in training and in evaluation."""
