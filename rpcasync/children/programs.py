"""Programs that are started: the command, its environment, whose rights it gets, its socket.

    python://server.py        perl://server.pl
    pythonroot://server.py    the same, and root stays root
    python2://server.py       stdout and stderr are pipes to us
    pythonheader://server.py  the first argument is the code that runs instead of ours

The words `root`, `2` and `header` may follow `python` or `perl` in any order, each once. The
program gets one end of a socketpair and no other descriptor of ours. A Python program learns its
number from the environment variable RPCASYNC_FDS, and `startup.py` reads that; a Perl program
finds a function `init_clients` that was defined for it.
"""

from __future__ import annotations

import errno
import io
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, cast

from eventmux.errors import URLError
from eventmux.events import MaybeNone
from rpcasync._log import log
from rpcasync.children.environments import own_environment, perl_environment, python_environment
from rpcasync.children.leftover import end_with_us

__all__ = [
    "USER_VARIABLES",
    "ChildSocket",
    "Program",
    "parse_program",
    "start_command",
    "start_program",
]

USER_VARIABLES = ("SUDO_USER", "RPC_ASYNC_URL_USER")

_STDIO = (0, 1, 2)
_SCHEME = re.compile("(?P<language>python|perl)(?P<words>(?:root|2|header)*)")
_WORD = re.compile("root|2|header")

# Runs as `perl -e HEADER fd file args`. The file is loaded by a path that begins with "./":
# since Perl 5.26 one without would not be looked for in the current folder. That folder is the
# last to look for modules in, as it was until then.
_PERL_HEADER = r"""
use strict;
use warnings;
use IO::Socket::UNIX;

my ($fd, $file) = splice @ARGV, 0, 2;
my $client = IO::Socket::UNIX->new_from_fd($fd, '+<')
    or die "$file: descriptor $fd is no socket: $!\n";
sub init_clients { my ($rpc) = @_; $rpc->add_client($client) }

my ($folder, $name) = $file =~ m{\A(.*/)([^/]+)\z}s;
$0 = $file;
push @INC, $folder;
-r "./$name" or die "$file cannot be read: $!\n";
my $loaded = do "./$name";
die "$file failed: $@" if $@;
die "$file did not return a true value: it must end with 1;\n" if !$loaded;
"""


class ChildSocket(socket.socket):
    """A socket whose other end belongs to a child process.

    `process` is the child. `stdout` and `stderr` are what it prints, unbuffered, to be read or
    given to a mux; they are None unless the URL asked for them.
    """

    process: subprocess.Popen[bytes]
    stdout: IO[bytes] | MaybeNone = None
    stderr: IO[bytes] | MaybeNone = None


@dataclass(frozen=True, slots=True)
class Program:
    """What a URL says about a program to start."""

    url: str
    language: str
    file: str
    root: bool = False
    pipes: bool = False
    header: bool = False


def parse_program(url: str) -> Program | None:
    """Parse a URL that starts a program; return None if the scheme is another one.

    Raises:
        URLError: the scheme has a word twice, or there is no file.
    """
    scheme, separator, file = url.partition("://")
    match = _SCHEME.fullmatch(scheme)
    if match is None or not separator:
        return None
    language = match["language"]
    words = _WORD.findall(match["words"])
    if len(words) != len(set(words)):
        raise URLError(
            f"cannot parse {url!r}: expected {language}://, and after {language} any of root, 2"
            " and header, each once"
        )
    if not file:
        raise URLError(f"cannot parse {url!r}: expected {scheme}://file")
    return Program(url, language, file, "root" in words, "2" in words, "header" in words)


# Starting


def start_program(program: Program, args: Sequence[str]) -> ChildSocket:
    """Start a program with one end of a socketpair; return the other.

    Raises:
        URLError: the header is missing from the arguments.
        OSError: the file does not exist, the interpreter cannot be executed, the user to run it
            as is unknown...
    """
    header, args = _take_header(program, args)
    if not os.path.isfile(program.file):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), program.file)
    user = None if program.root else _user_to_be(program.url)
    ours, theirs = _pair()
    with theirs, _child_socket(ours) as sock:
        descriptor = theirs.fileno()
        is_perl = program.language == "perl"
        command = _Command(
            [*_words(program, header, descriptor), *args],
            perl_environment() if is_perl else python_environment(descriptor),
            folder=os.path.dirname(os.path.abspath(program.file)) if is_perl else None,
            user=user,
            descriptors=[descriptor],
            pipes=program.pipes,
        )
        _start(sock, command, program.url)
    return sock


def start_command(url: str, command: str, args: Sequence[str]) -> ChildSocket:
    """Run a command of PATH, with pipes to its stdout and stderr; no shell is involved.

    Its stdin is empty, and it keeps our rights. There is no socket: the one that is returned is
    closed.

    Raises:
        URLError: there is no command.
        OSError: it cannot be executed.
    """
    if not command:
        raise URLError(f"cannot parse {url!r}: expected open2://command")
    # A datagram socket, so that nobody takes it for one that calls could be sent on
    with _child_socket(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as sock:
        sock.close()
        _start(sock, _Command([command, *args], own_environment(), pipes=True, stdin=False), url)
    return sock


def _take_header(program: Program, args: Sequence[str]) -> tuple[str, Sequence[str]]:
    if not program.header:
        return "", args
    if not args:
        raise URLError(f"cannot start {program.url!r}: the first argument must be the header")
    return args[0], args[1:]


def _words(program: Program, header: str, descriptor: int) -> list[str]:
    """Return the command, but for the arguments of the program."""
    path = os.path.abspath(program.file)
    if program.language == "perl":
        code = header if program.header else _PERL_HEADER
        return ["perl", "-e", code, str(descriptor), path]
    if program.header:
        return [sys.executable, "-c", header, str(descriptor), path]
    # Python would take a name that begins with a dash for an option
    return [sys.executable, f"./{program.file}" if program.file.startswith("-") else program.file]


def _pair() -> tuple[socket.socket, socket.socket]:
    """Return a socketpair that blocks, with descriptors that no program prints to.

    If we were started without stdin, stdout or stderr, the next socket has that number.
    """
    pair = socket.socketpair()
    try:
        for sock in pair:
            _lift(sock)
            sock.setblocking(True)  # for the program, too, whatever is our default timeout
    except BaseException:
        for sock in pair:
            sock.close()
        raise
    return pair


def _lift(sock: socket.socket) -> None:
    """Move a socket above the descriptors of stdin, stdout and stderr."""
    if sock.fileno() in _STDIO:
        import fcntl

        number = fcntl.fcntl(sock.fileno(), fcntl.F_DUPFD_CLOEXEC, len(_STDIO))
        os.close(sock.detach())
        socket.socket.__init__(sock, fileno=number)


@contextmanager
def _child_socket(sock: socket.socket) -> Iterator[ChildSocket]:
    """Give a ChildSocket with this socket's descriptor; it is closed if there is no child."""
    kind = sock.type
    child = ChildSocket(socket.AF_UNIX, kind, fileno=sock.detach())
    child.setblocking(True)
    try:
        yield child
    except BaseException:
        child.close()
        raise


@dataclass(frozen=True, slots=True)
class _Command:
    """What is run, and what it gets of us.

    `folder` is where it runs, None for here; `user` whose rights it gets, None for ours;
    `descriptors` what it inherits besides stdin, stdout and stderr.
    """

    words: list[str]
    environment: dict[str, str]
    folder: str | None = None
    user: _User | None = None
    descriptors: Sequence[int] = ()
    pipes: bool = False
    stdin: bool = True


def _start(sock: ChildSocket, command: _Command, url: str) -> None:
    user = command.user
    sock.process = subprocess.Popen(  # noqa: S603  # starting what the URL says is the point
        command.words,
        bufsize=0,
        stdin=_standard(0) if command.stdin else subprocess.DEVNULL,
        stdout=subprocess.PIPE if command.pipes else _standard(1),
        stderr=subprocess.PIPE if command.pipes else _standard(2),
        pass_fds=command.descriptors,
        close_fds=True,
        cwd=command.folder,
        env={**command.environment, **(user.environment if user else {})},
        start_new_session=True,  # Ctrl-C is for us: the child ends when we let go of it
        user=user.uid if user else None,
        group=user.gid if user else None,
        extra_groups=user.groups if user else None,
    )
    process = sock.process
    process.stdout, process.stderr = _pipe(process.stdout), _pipe(process.stderr)
    sock.stdout, sock.stderr = process.stdout, process.stderr
    end_with_us(process, sock, url)


class _Pipe(io.FileIO):
    """What a program prints. To drop it unread is no mistake, and there is no warning."""

    def __del__(self) -> None:
        """Close it."""
        self.close()


def _pipe(file: IO[bytes] | None) -> IO[bytes] | None:
    """Return a pipe in the place of the one that `subprocess` has made."""
    if file is None:
        return None
    with file:
        return cast("IO[bytes]", _Pipe(os.dup(file.fileno())))


def _standard(number: int) -> int | None:
    """Return what to pass on as stdin, stdout or stderr: ours, or /dev/null where there is none.

    Else what the program opens first would get the number, and what it prints.
    """
    try:
        is_there = os.get_inheritable(number)  # not one of the sockets that are opened here
    except OSError:
        is_there = False
    return None if is_there else subprocess.DEVNULL


# Rights


@dataclass(frozen=True, slots=True)
class _User:
    """Whose rights a program gets, and what its environment says of that."""

    uid: int
    gid: int
    groups: list[int]
    environment: dict[str, str]


def _user_to_be(url: str) -> _User | None:
    """Return whom a program runs as that root starts; None for who we are.

    Raises:
        OSError: there is no such user.
    """
    if 0 not in (os.geteuid(), os.getegid()):
        return None
    for variable in USER_VARIABLES:
        if name := os.environ.get(variable):
            return _look_up(url, variable, name)
    log.warning(
        "%s keeps the rights of root: neither %s nor %s names a user for it", url, *USER_VARIABLES
    )
    return None


def _look_up(url: str, variable: str, name: str) -> _User | None:
    import pwd  # Windows has none, and no root either

    try:
        entry = pwd.getpwnam(name)
    except (KeyError, ValueError):
        text = f"cannot start {url}: {variable} is {name!r}, and there is no such user"
        raise OSError(errno.EINVAL, text) from None
    if (entry.pw_uid, entry.pw_gid) == (os.geteuid(), os.getegid()):
        return None
    environment = {"HOME": entry.pw_dir, "USER": name, "LOGNAME": name}
    groups = os.getgrouplist(name, entry.pw_gid)
    return _User(entry.pw_uid, entry.pw_gid, groups, environment)
