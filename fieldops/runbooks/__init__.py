"""Procedures as data: parsed with all faults at once, run by a generator that turns facts into next steps."""
