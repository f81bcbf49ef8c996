"""One small working plugin for each hook, with its test: the pieces that ``buttress.scaffold`` puts together."""
