"""What one asks of the library in a line: the commands, and in Python their functions, with the same options.

Signatures say what an option is unless given, there and here; so that they are read at once, imports stand inside.
May import: finding, images, judging, networks, reporting, robustness, running, settings, sharing, storage, studying, training.
"""  # noqa: E501
