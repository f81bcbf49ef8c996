"""Network architectures; a config normalises their inputs by ``model.normalize``."""
