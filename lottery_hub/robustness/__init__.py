"""Attacks and corruptions, and what a network withstands: SA and RA, image by image.

May import: settings, images, networks.
"""
