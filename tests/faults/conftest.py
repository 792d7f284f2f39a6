"""The modules here import each other by name, as they do where `campaign.py` is run by hand."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
