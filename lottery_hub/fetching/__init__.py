"""Talking to the Hub and other servers, patiently and within bounds; what arrives is checked before it is used.

May import: nothing.
"""
