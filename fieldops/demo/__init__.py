"""The sample fleet: real agents, real SSH, real inference, scripted conditions."""
