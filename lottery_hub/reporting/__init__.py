"""From records to what people read: the cards of tickets and ladders, and the folders in which they are kept.

May import: settings, fetching, images, networks, storage, robustness, judging.
"""
