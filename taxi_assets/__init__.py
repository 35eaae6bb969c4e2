"""New York's taxi trip records as Dagster assets, month by month."""

import os
import sys

if sys.platform == "linux":
    # Arrow's other allocator gives memory back later: 513 MB against 432 MB at the peak of a 1.37-million-row month. It is
    # chosen when pyarrow is first imported, and only so.
    os.environ.setdefault("ARROW_DEFAULT_MEMORY_POOL", "jemalloc")
