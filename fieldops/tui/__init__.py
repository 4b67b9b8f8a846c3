"""The console. Screens draw values and call operations; nothing is decided here."""
