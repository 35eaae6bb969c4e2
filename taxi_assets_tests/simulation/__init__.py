"""A simulation of months of operation: the product's own decisions over a model of the publisher, the lake and the sinks."""
