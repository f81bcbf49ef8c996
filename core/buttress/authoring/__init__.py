"""Help for authors of plugins: a new package, and checks of a plugin."""
