"""The built-in plugins: one method, one file. The core finds them by entry point, like all others, and imports none."""
