"""What runs on the device: always a valid model answering; every change journaled before it happens."""
