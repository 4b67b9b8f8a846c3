"""The audit trail: entries as the exact bytes that are hashed, an RFC 6962 tree over them, signed checkpoints."""
