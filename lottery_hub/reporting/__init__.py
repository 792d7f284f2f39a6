"""From records to what people read: cards, pictures and pages, and the folders in which they are kept.

May import: settings, fetching, images, networks, storage, robustness, judging.
"""
