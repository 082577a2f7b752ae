"""Rounds of faults at random instants, each from its seed: see README.md."""
