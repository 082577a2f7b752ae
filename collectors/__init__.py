"""The edge: protocols, polling, and the durable outbox."""
