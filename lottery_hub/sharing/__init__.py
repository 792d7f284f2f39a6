"""Where backbones and tickets come from, and where they go: the Hub, other addresses, other formats.

May import: settings, fetching, images, networks, storage, judging, reporting.
"""
