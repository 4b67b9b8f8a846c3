"""What a visit consists of. Each operation serves CLI, console, runbook and tour alike, and changes devices only through the gate."""
