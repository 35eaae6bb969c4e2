"""What the figures in docs/performance.md are measured with. `make bench` is the way in; `bench` says how."""
