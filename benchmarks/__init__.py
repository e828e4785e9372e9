"""How fast mcsim is, as ratios measured in one run: python -m benchmarks."""

import os

from mcsim.study.workers.threads import ONE_THREAD

os.environ.update(ONE_THREAD)  # before numpy: as in the command, and as its workers
