"""Parts of the package that ``buttress plugins new`` makes: one working example a hook, and the files around it."""
