"""Methods x settings x seeds: variants, their runs, one table."""
