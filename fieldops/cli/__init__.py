"""The scripting verbs. stdout is data, stderr is talk; nothing is decided here."""
