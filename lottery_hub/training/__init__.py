"""The one loop, and its uses: to pre-train a backbone, to draw a ladder, to transfer a ticket, and many for a find.

May import: settings, images, networks, storage, robustness, running, judging.
"""
