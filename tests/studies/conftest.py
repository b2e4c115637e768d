"""`studies` is in no wheel: it is found beside the tests.

Behind everything else, because `tubeletx` beside it has no compiled operators where an installed one is tested.
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))
