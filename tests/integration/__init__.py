"""Tests on the real parts: Kafka, InfluxDB, sockets, pseudo-terminals, and the project's own processes."""
