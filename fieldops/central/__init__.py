"""The central store: takes what laptops recorded, exactly once, and shows what disagrees."""
