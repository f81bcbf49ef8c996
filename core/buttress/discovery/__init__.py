"""What is installed or lies beside a config: plugins, recipes, modules of the user's own."""
