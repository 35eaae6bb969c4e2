"""What every other package builds on: months, tables, month files, manifests, locks and errors. It imports none of them."""
