"""From files to uint8 tensors to the [0,1] batches that a network sees.

May import: settings, fetching.
"""
