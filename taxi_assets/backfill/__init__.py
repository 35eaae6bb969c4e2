"""`make backfill`: `runner` plans and hands out months, `worker` loads them in a process of its own, `report` tells."""
