"""What is put on a device: the manifest of a bundle, the golden set that judges it, and the facts that make it trusted."""
