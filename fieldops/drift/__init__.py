"""Does the data, or the hardware, still look as it did at release? Counts over frozen bins, tests on them, and the cause."""
