"""Backbones, masks and tickets in memory, and the forms in which a network computes.

May import: settings, images.
"""
