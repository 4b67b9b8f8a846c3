"""Where the world comes in: files, sockets, keys, models. Foreign errors become ours here, once, and only wiring imports these."""
