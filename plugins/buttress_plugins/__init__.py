"""The built-in plugins: one method, one file. Found by entry point, like everybody else's; never imported by the core."""
