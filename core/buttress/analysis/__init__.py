"""Diagnosis of a run: why its robust accuracy fell, and what the cures did to the weights.

``parts`` has one question a file; ``run`` puts them to a run, which ``study`` opens.
"""
