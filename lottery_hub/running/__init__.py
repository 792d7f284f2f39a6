"""Finished work is never done twice, and independent work is done side by side.

May import: storage.
"""
