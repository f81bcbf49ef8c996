"""For authors of plugins: a new package, and what is to be checked."""
