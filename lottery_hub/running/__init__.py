"""Finished work is never done twice, whoever does it: the store of units, its locks, and what runs them.

May import: settings, fetching, storage.
"""
