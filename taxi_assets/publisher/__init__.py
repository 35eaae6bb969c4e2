"""Where it is published: sources, downloads, file formats to record batches, and the generated sample."""
