"""Is it a double win, do the records hold together, and what do a closer look and a second measurement find?

May import: settings, fetching, images, networks, storage, robustness.
"""
