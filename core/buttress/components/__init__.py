"""From a name in a config to a checked object.

``loaded.load_plugins`` is the way of a list of plugins; on it lie

- ``sources``: names to entry points, imported when they are chosen,
- ``plugin_class``, ``members``, ``traits``: a class, examined before it is used,
- ``signature``, ``validation``, ``readable``, ``plain``: the settings of a class, and values checked against them,
- ``construct``: the object made of both,
- ``own_modules``, ``plugins_file``, ``trust``: code that is not installed, and whether it may run,
- ``place``: the place of a key in a config, for messages.
"""
