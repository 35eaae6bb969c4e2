"""What every other package builds on: months, errors, keys of assets, tags of runs. It imports none of them."""
