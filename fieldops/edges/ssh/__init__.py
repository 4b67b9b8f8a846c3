"""SSH to one device: commands, copies of files, and HTTP to the agent's unix socket. The only package that imports paramiko.

    sockets    the byte stream under a connection, which remembers when it last heard anything
    handshake  from an address to agreed keys, each phase within the caller's time
    hostkeys   is it the right host? Asked before anything of ours is sent
    login      keys from files and ssh-agent; passwords only where policy lets them
    connecting these in order, and through jump hosts
    channels   one connection: channels, the watchdog, what all who wait are told at its end
    commands   one command: its output, its input, its limits
    remote     what wraps a command on the device: sudo, and jobs that end with the laptop
    sessions   commands over one connection, few at once
    upload     a file to the device, resumable; flow feeds it
    download   a file from the device, resumable; copies is what the two share
    streams    httpcore over a channel
    link       all of it as one object
    relinked   a copy over as many links as it takes

Rules, each learned the hard way (measured on paramiko 5.1 against OpenSSH 9.2):
- The host key is verified before any credential is sent. Accepting a key is a change of its own.
- Raw Transport and Channel only: SSHClient's file objects deadlock under garbage collection.
- EOF goes only to a command that reads stdin to its end; every other one gets `</dev/null`. An EOF that crosses the
  remote's CLOSE makes sshd drop the whole connection.
- stdout and stderr share one window, so both are drained by one loop. Channels are closed explicitly, never left to the
  collector.
- One command runs before the first forward: sshd sets TCP_NODELAY only then (else 40 ms a request).
- New session keys are left to the server to ask for: paramiko's own asking deadlocks against a channel's close.
- Nothing in paramiko notices a dead peer. A watchdog thread a link closes the socket when nothing was heard for 7.5 s, and
  all who wait raise LinkLost.
"""

from __future__ import annotations

import logging

from fieldops.edges.ssh.channels import PING_S, SILENCE_S
from fieldops.edges.ssh.commands import OUTPUT_LIMIT, Result
from fieldops.edges.ssh.connecting import Terms, connect, host_key, names_of
from fieldops.edges.ssh.copies import Copied
from fieldops.edges.ssh.hostkeys import Vouching, verdict_on
from fieldops.edges.ssh.link import SshLink
from fieldops.edges.ssh.login import Keys
from fieldops.edges.ssh.relinked import LEAST_IN_FLIGHT, deliver, fetch
from fieldops.edges.ssh.remote import Sudo, line_of

# Refused channels and handshakes are logged by paramiko to stderr, across the console's screen; we say them ourselves.
logging.getLogger("paramiko").addHandler(logging.NullHandler())
logging.getLogger("paramiko").propagate = False

__all__ = [
    "LEAST_IN_FLIGHT",
    "OUTPUT_LIMIT",
    "PING_S",
    "SILENCE_S",
    "Copied",
    "Keys",
    "Result",
    "SshLink",
    "Sudo",
    "Terms",
    "Vouching",
    "connect",
    "deliver",
    "fetch",
    "host_key",
    "line_of",
    "names_of",
    "verdict_on",
]
