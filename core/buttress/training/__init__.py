"""Runs: from a config to a run folder, one epoch after the other, resumable at every step.

- ``launch``: start or continue a run; ``trainer``: its epochs,
- ``assembly``: the objects of a run, made from its config,
- ``scoreboard``, ``selection``, ``conclusion``: scores while training, the best epoch, the summary,
- ``resumable_state``: everything that a checkpoint saves and restores; ``checkpoint``: the files of a checkpoint,
- ``manifest``, ``existing``: facts about a new run folder, and an existing one opened,
- ``collapse``, ``recovery``: a collapse noticed, and the roll-back.
"""
