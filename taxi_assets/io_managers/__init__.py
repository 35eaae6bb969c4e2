"""Where months are kept: one module a sink, one contract for all of them (see `base`)."""
