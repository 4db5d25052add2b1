import sys
from pathlib import Path

# `bench` is not installed: it is found in the folder that `tests` is in, as `python -m bench.run` finds it.
sys.path.append(str(Path(__file__).parents[3]))
