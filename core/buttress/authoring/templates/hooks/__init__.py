"""One small working plugin for each hook, with its test: the pieces that ``authoring.scaffold`` puts together."""
