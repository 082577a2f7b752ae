"""Meters with a known truth, on real sockets and serial lines."""
