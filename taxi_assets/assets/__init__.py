"""The asset graph: what is computed, and from what. One factory a group, called once for each kind of taxi."""
