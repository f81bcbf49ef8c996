"""The report of runs: one self-contained HTML page.

``material`` reads run folders, ``figures`` draws their curves, ``page`` fills the template.
"""
