"""Diagnosis of a run: why its robust accuracy fell, and what the cures did to the weights.

Pure functions of tensors and records, one question a file; ``parts`` puts them to a run, ``pictures`` draws what it
answers.
"""
