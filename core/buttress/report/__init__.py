"""The report of runs: one self-contained HTML page.

``material`` reads run folders, ``figures`` makes interactive figures of them, ``page`` fills the template.
"""
