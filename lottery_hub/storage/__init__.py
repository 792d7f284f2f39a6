"""Tickets, ladders and backbones on disk: written whole or not at all, and read with every byte accounted for.

May import: settings, fetching, images, networks.
"""
