"""What a run depends on: a plan and the numbers in it, paths as they are typed, the device, and which tricks are on.

May import: nothing.
"""
