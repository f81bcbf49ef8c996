"""What ``buttress plugins new`` makes a package of: one working example a hook, and the files around it."""
