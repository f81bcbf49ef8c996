"""Robust accuracy of weights under attack, while training or later."""
