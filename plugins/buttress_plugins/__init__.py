"""The built-in plugins: one method, one file. Found by entry point, like all others; never imported by the core."""
