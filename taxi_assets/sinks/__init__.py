"""Where months are loaded: the contract of a sink, and a package for each."""
