"""Servers to compare with that are programs of a page: `floor`, `broadcast`, `fanout.cjs`."""
