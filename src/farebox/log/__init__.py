"""The event log: one port, a deterministic twin in memory, and JetStream."""
