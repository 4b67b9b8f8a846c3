"""Our resolver beside the real `ssh -G`, and what it refuses."""

from __future__ import annotations

import getpass
import shutil
import subprocess
from pathlib import Path

import pytest

from fieldops.edges.ssh_config import Hop, SshConfig
from fieldops.errors import UsageFault

SSH = shutil.which("ssh")

CONFIGS = {
    "first-wins": "Host a\n User one\nHost *\n User two\n Port 2200\n",
    "top-level": "User everyone\nHost a\n User one\n Port 99\n",
    "equals-and-quotes": 'Host=a\nUser = "one two"\nPort="2022"\nIdentityFile "/keys/my key"\n',
    "case": "hOsT a\nUSER one\nhostNAME A.Example.COM\n",
    "patterns": "Host plant-* !plant-7\n User plant\nHost 10.0.?.*\n User ten\n",
    "several-patterns": "Host x y a b\n User listed\n",
    "negated-only": "Host !a\n User never\nHost *\n Port 5\n",
    "hostname": "Host a\n HostName 192.0.2.7\n HostKeyAlias press-7\n",
    "hostname-token": "Host a b\n HostName %h.plant.example\n",
    "identities": "IdentityFile ~/.ssh/plant\nHost a\n IdentityFile /keys/%h-%r-%p\n IdentitiesOnly yes\n User tech\nIdentityFile none\n",
    "timeout": "Host a\n ConnectTimeout 7\nHost b\n ConnectTimeout 1m30\n",
    "jumps": "Host a\n ProxyJump me@gate:2222,inner\nHost b\n ProxyJump none\nHost *\n ProxyJump gate\n",
    "jump-to-v6": "Host a\n ProxyJump x@[2001:db8::1]:2222\n",
    "match-host": "Host a\n HostName real.example\nMatch host real.example\n User matched\nMatch host a\n Port 1\n",
    "match-originalhost": "Host a\n HostName real.example\nMatch originalhost a\n User matched\n",
    "match-user": "Match user root\n Port 1\nHost a\n User tech\nMatch user tech\n Port 2\n",
    "match-localuser": f"Match localuser {getpass.getuser()}\n Port 3\nMatch localuser nobody-else\n Port 4\n",
    "match-two": "Match host a,b user tech\n Port 1\nMatch !host a\n Port 2\nMatch all\n Port 3\n",
    "match-final": "Match final host *.example\n User late\nHost a\n HostName a.example\n",
    "match-exec-not-reached": "Match host other exec false\n Port 1\nHost a\n Port 2\n",
    "include": "Include more.conf\nHost a\n User later\n",
    "include-in-host": "Host a\n Include inner.conf\nHost *\n Port 9\n",
    "include-not-there": "Include nothing-*.conf\nHost a\n User one\n",
    "include-list": "Include more.conf inner.conf\n",
    "comments": "# a comment\n\nHost a # not a pattern\n User one # said\n",
    "known-hosts": "Host a\n UserKnownHostsFile /k/one /k/two\n",
}
INCLUDED = {"more.conf": "Host a\n User included\nHost *\n Port 77\n", "inner.conf": "User inner\nHost b\n Port 12\n"}
HOSTS = ("a", "b", "plant-1", "plant-7", "10.0.3.4", "a.example", "A")


def truth(file: Path, host: str, home: Path) -> dict[str, list[str]]:
    assert SSH is not None
    done = subprocess.run([SSH, "-G", "-F", file, host], capture_output=True, text=True, timeout=20, check=True)
    said: dict[str, list[str]] = {}
    for line in done.stdout.splitlines():
        keyword, _, value = line.partition(" ")
        said.setdefault(keyword, []).append(value)
    return said


def jump_text(hop: Hop) -> str:
    def one(user: str | None, host: str, port: int | None) -> str:
        shown = f"[{host}]" if ":" in host else host
        return f"{f'{user}@' if user else ''}{shown}{f':{port}' if port else ''}"

    return ",".join(one(jump.user, jump.host, jump.port) for jump in hop.jumps)


@pytest.mark.needs_sshd
@pytest.mark.skipif(SSH is None, reason="needs OpenSSH's client: apt-get install openssh-client")
@pytest.mark.parametrize("name", CONFIGS)
def test_it_resolves_as_ssh_does(name: str, tmp_path: Path) -> None:
    # ssh asks the system for the home folder and looks there for relative includes; absolute names serve both
    for part, text in INCLUDED.items():
        (tmp_path / part).write_text(text)
    text = CONFIGS[name]
    for part in (*INCLUDED, "nothing-*.conf"):
        text = text.replace(part, str(tmp_path / part))
    file = tmp_path / "config"
    file.write_text(text)
    home = Path("~").expanduser()
    config = SshConfig((file,), home, getpass.getuser())
    for host in HOSTS:
        wanted, hop = truth(file, host, home), config.resolve(host)
        assert hop.host == wanted["hostname"][0], host
        assert hop.port == int(wanted["port"][0]), host
        assert (hop.user or getpass.getuser()) == wanted["user"][0], host
        assert hop.connect_timeout == float(wanted["connecttimeout"][0].replace("none", "0")), host
        assert jump_text(hop) == wanted.get("proxyjump", [""])[0], host
        assert hop.identities_only is (wanted["identitiesonly"][0] == "yes"), host
        if "hostkeyalias" in wanted:
            assert (hop.known_as, hop.known_port) == (wanted["hostkeyalias"][0], 22), host
        if hop.identity_files:
            # ssh -G shows tokens as written; ours have them put in
            shown = [word for word in wanted["identityfile"] if word != "none"]
            tokens = {"%h": hop.host, "%r": hop.user or getpass.getuser(), "%p": str(hop.port)}
            for token, value in tokens.items():
                shown = [word.replace(token, value) for word in shown]
            assert [str(path) for path in hop.identity_files] == [word.replace("~", str(home), 1) for word in shown], host
        if hop.known_hosts_files:
            assert " ".join(map(str, hop.known_hosts_files)) == wanted["userknownhostsfile"][0], host


@pytest.mark.parametrize(
    ("text", "reason", "said"),
    [
        ("Match exec true\n User x\n", "unsupported_ssh_config", "config:1"),
        ("Host a\n ProxyCommand nc %h %p\n", "unsupported_ssh_config", "config:2"),
        ("Match address 10.0.0.0/8\n User x\n", "unsupported_ssh_config", "address"),
        ("Host a\n Port many\n", "bad_file", "config:2"),
        ("Host a\n ConnectTimeout soon\n", "bad_file", "config:2"),
        ("Host a\n ProxyJump b,c:x:y\n", "bad_file", "config:2"),
        ("Host\n", "bad_file", "config:1"),
        ("Match host\n", "bad_file", "config:1"),
        ("Include ~/config\n", "bad_file", "deep"),
    ],
)
def test_what_it_does_not_do_is_said_with_its_place(text: str, reason: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "config").write_text(text)
    with pytest.raises(UsageFault) as caught:
        SshConfig((tmp_path / "config",), tmp_path, "tech").resolve("a")
    assert caught.value.reason == reason
    assert said in caught.value.message


def test_what_is_given_outside_the_configuration_stands_above_it(tmp_path: Path) -> None:
    (tmp_path / "config").write_text("Host a\n User one\n Port 9\n IdentityFile ~/.ssh/%r-%p\n")
    hop = SshConfig((tmp_path / "config", tmp_path / "none"), tmp_path, "tech").resolve("a", user="two", port=10)
    assert (hop.user, hop.port, hop.identity_files) == ("two", 10, (tmp_path / ".ssh" / "two-10",))
