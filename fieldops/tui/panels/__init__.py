"""Given a value, a panel returns what to draw. Pure: no widget, no clock, no I/O, so tests call them with values."""
