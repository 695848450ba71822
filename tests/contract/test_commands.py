"""Commands over every connection: exit codes, pipes, arguments, deadlines, and the end of process groups."""

from __future__ import annotations

import hashlib
import os
import signal

import pytest
from support.bench import Bench, eventually

from harness.connect.base import Process
from harness.errors import CommandFailed, ConfigError, ConnectionLost, DeadlineExceeded

EVERY_BYTE = bytes(range(256))
LONG_S = 240.0  # never reached: only bounds a test that hangs

# prints its own pid and its child's, ignores nothing, waits for ever
PARENT_AND_CHILD = ["sh", "-c", "sleep 1000 & echo $$ $!; wait"]
STUBBORN = ["sh", "-c", "trap '' TERM; sleep 1000 & echo $$ $!; while :; do wait; done"]


@pytest.mark.parametrize("code", [0, 1, 3, 126, 127, 255])
def test_exit_code(bench: Bench, code: int) -> None:
    done = bench.connection.run(["sh", "-c", f"exit {code}"], timeout_s=LONG_S, check=False)
    assert done.returncode == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV, signal.SIGTERM])
def test_a_signal_is_128_and_its_number(bench: Bench, number: signal.Signals) -> None:
    done = bench.connection.run(["sh", "-c", f"kill -{number.value} $$"], timeout_s=LONG_S, check=False)
    assert done.returncode == 128 + number


def test_a_failure_carries_its_facts(bench: Bench) -> None:
    argv = ["sh", "-c", "echo left over; echo why >&2; exit 4"]
    with pytest.raises(CommandFailed, match="exited with 4, expected 0: why") as caught:
        bench.connection.run(argv, timeout_s=LONG_S)
    assert caught.value.argv == tuple(argv)
    assert (caught.value.returncode, caught.value.stderr) == (4, "why\n")
    assert caught.value.where == bench.connection.device_name


def test_stdout_and_stderr_stay_apart(bench: Bench) -> None:
    done = bench.connection.run(["sh", "-c", "echo out; echo err >&2"], timeout_s=LONG_S)
    assert (done.stdout, done.stderr) == (b"out\n", b"err\n")


@pytest.mark.parametrize(
    ("argv", "code"),
    [(["no-such-command-here", "x"], 127), (["/etc/passwd"], 126)],
    ids=["missing", "no right"],
)
def test_what_cannot_be_executed(bench: Bench, argv: list[str], code: int) -> None:
    with pytest.raises(CommandFailed, match=argv[0]) as caught:
        bench.connection.run(argv, timeout_s=LONG_S)
    assert caught.value.returncode == code


ODD_ARGUMENTS = [
    "",
    "two words",
    "'single' \"double\" `back`",
    "$(touch /tmp/harness-was-here) $HOME ${x} $$",
    "line\nbreak\ttab\\n\\",
    "-n",
    "--",
    "*?[a]{b,c}~",
    "a;b|c&d>e<f#g!h",
    "ünïcode ✓ 漢字",
    "\udcff raw byte",
    "x" * 5000,
]


def test_arguments_arrive_as_they_are(bench: Bench) -> None:
    done = bench.connection.run(["printf", "%s\\0", *ODD_ARGUMENTS], timeout_s=LONG_S)
    assert done.stdout.split(b"\0")[:-1] == [os.fsencode(a) for a in ODD_ARGUMENTS]


def test_programs_are_not_the_shells_builtins(bench: Bench) -> None:
    done = bench.connection.run(["echo", "-e", r"a\tb"], timeout_s=LONG_S)
    assert done.stdout == b"a\tb\n"  # coreutils; the builtin of a POSIX shell prints `-e`


@pytest.mark.parametrize("argv", [[], [""], "ls -l", ["a\0b"]])
def test_what_no_command_line_can_carry(bench: Bench, argv: list[str]) -> None:
    with pytest.raises(ConfigError):
        bench.connection.run(argv, timeout_s=LONG_S)


def test_environment(bench: Bench) -> None:
    env = {"HIL_ONE": "a b'c\"$(d)", "HIL_TWO": "x=y\nz"}
    done = bench.connection.run(
        ["sh", "-c", 'printf "%s|%s|%s" "$HIL_ONE" "$HIL_TWO" "${PATH:+path}"'], env=env, timeout_s=LONG_S
    )
    assert done.stdout.decode() == f"{env['HIL_ONE']}|{env['HIL_TWO']}|path"


def test_every_byte_there_and_back(bench: Bench) -> None:
    assert bench.connection.run(["cat"], stdin=EVERY_BYTE, timeout_s=LONG_S).stdout == EVERY_BYTE


def test_5_mb_there_and_back(bench: Bench) -> None:
    data = EVERY_BYTE * 20_000
    done = bench.connection.run(["cat"], stdin=data, timeout_s=LONG_S)
    assert hashlib.sha256(done.stdout).digest() == hashlib.sha256(data).digest()


def test_stdin_ends(bench: Bench) -> None:
    assert bench.connection.run(["cat"], timeout_s=LONG_S).stdout == b""


def test_input_that_nobody_reads_is_no_error(bench: Bench) -> None:
    done = bench.connection.run(["true"], stdin=bytes(3_000_000), timeout_s=LONG_S)
    assert done.returncode == 0


def test_much_on_both_outputs_at_once(bench: Bench) -> None:
    size = 3_000_000
    script = f"head -c {size} /dev/zero >&2 & head -c {size} /dev/zero; wait"
    done = bench.connection.run(["sh", "-c", script], timeout_s=LONG_S)
    assert (len(done.stdout), len(done.stderr)) == (size, size)


def test_stderr_of_a_process_is_its_tail(bench: Bench) -> None:
    process = bench.connection.start(["sh", "-c", "head -c 300000 /dev/zero >&2; echo the end >&2; echo x"])
    try:
        assert process.read(10, timeout_s=LONG_S) == b"x\n"
        assert process.read(10, timeout_s=LONG_S) == b""
        assert eventually(lambda: process.read_stderr().endswith("the end\n"))
        assert len(process.read_stderr()) == 64 * 1024
    finally:
        process.close()


def test_a_conversation(bench: Bench) -> None:
    process = bench.connection.start(["cat"])
    try:
        for word in (b"one", b"\0\xff\n", bytes(100_000)):
            process.write(word, timeout_s=LONG_S)
            assert _read_exactly(process, len(word)) == word
        assert process.poll() is None
    finally:
        process.close()
    assert process.poll() == 128 + signal.SIGTERM
    process.close()


def test_two_processes_at_once(bench: Bench) -> None:
    first, second = bench.connection.start(["cat"]), bench.connection.start(["cat"])
    try:
        first.write(b"1", timeout_s=LONG_S)
        second.write(b"2", timeout_s=LONG_S)
        assert bench.connection.run(["echo", "3"], timeout_s=LONG_S).stdout == b"3\n"
        assert second.read(1, timeout_s=LONG_S) == b"2"
        assert first.read(1, timeout_s=LONG_S) == b"1"
    finally:
        first.close()
        second.close()


def test_reading_past_a_deadline(bench: Bench) -> None:
    process = bench.connection.start(["sh", "-c", "read -r line; echo got $line"])
    try:
        with pytest.raises(DeadlineExceeded, match=r"timeout_s = 0\.2"):
            process.read(100, timeout_s=0.2)
        process.write(b"it\n", timeout_s=LONG_S)
        assert process.read(100, timeout_s=LONG_S) == b"got it\n"
    finally:
        process.close()


def test_writing_past_a_deadline(bench: Bench) -> None:
    process = bench.connection.start(["sleep", "1000"])
    try:
        with pytest.raises(DeadlineExceeded, match="took no more input"):
            process.write(bytes(20_000_000), timeout_s=0.5)
    finally:
        process.close()


def test_writing_to_a_process_that_has_ended(bench: Bench) -> None:
    process = bench.connection.start(["sh", "-c", "echo gone >&2; exit 7"])
    try:
        assert process.read(1, timeout_s=LONG_S) == b""
        assert eventually(lambda: process.poll() == 7)  # its output ends a moment before it does
        with pytest.raises(ConnectionLost, match=r"exit code 7.*gone"):
            process.write(bytes(1_000_000), timeout_s=LONG_S)
    finally:
        process.close()


@pytest.mark.parametrize("command", [PARENT_AND_CHILD, STUBBORN], ids=["willing", "stubborn"])
def test_a_deadline_ends_the_process_group(bench: Bench, folder: str, command: list[str]) -> None:
    script = command[2].replace("echo $$ $!", f"echo $$ $! >{folder}/pids")
    bench.connection.run(["touch", f"{folder}/pids"], timeout_s=LONG_S)
    for timeout_s in (1.0, 4.0, 16.0, 64.0):  # on a busy host a second may be over before it has begun
        with pytest.raises(DeadlineExceeded, match=rf"has not finished after {timeout_s:g} s"):
            bench.connection.run(["sh", "-c", script], timeout_s=timeout_s)
        pids = bench.connection.run(["cat", f"{folder}/pids"], timeout_s=LONG_S).stdout.split()
        if pids:
            break
    assert len(pids) == 2
    assert all(bench.ends(int(pid)) for pid in pids)


def test_close_ends_the_process_group(bench: Bench) -> None:
    process = bench.connection.start(PARENT_AND_CHILD)
    pids = [int(pid) for pid in process.read(100, timeout_s=LONG_S).split()]
    assert all(bench.is_alive(pid) for pid in pids)
    process.close()
    assert all(bench.ends(pid) for pid in pids)


def test_closing_the_connection_ends_its_processes(bench: Bench) -> None:
    connection = bench.open()
    process = connection.start(PARENT_AND_CHILD)
    pids = [int(pid) for pid in process.read(100, timeout_s=LONG_S).split()]
    connection.close()
    connection.close()
    assert all(bench.ends(pid) for pid in pids)


def test_what_a_command_leaves_in_its_group_ends_with_it(bench: Bench) -> None:
    done = bench.connection.run(["sh", "-c", "sleep 1000 & echo $!"], timeout_s=LONG_S)
    assert bench.ends(int(done.stdout))


def test_what_makes_a_session_of_its_own_stays(bench: Bench, folder: str) -> None:
    own = f"setsid sh -c 'echo $$ >{folder}/pid; exec sleep 1000' >/dev/null 2>&1 </dev/null &"
    script = f"{own} until test -s {folder}/pid; do sleep 0.05; done; cat {folder}/pid"
    pid = int(bench.connection.run(["sh", "-c", script], timeout_s=LONG_S).stdout)
    try:
        assert bench.is_alive(pid)
    finally:
        bench.connection.run(["kill", str(pid)], timeout_s=LONG_S)


def test_ctrl_c_ends_the_process_group(bench: Bench, folder: str) -> None:
    script = PARENT_AND_CHILD[2].replace("echo $$ $!", f"echo $$ $! >{folder}/pids; echo up")
    with bench.interrupted_once(f"{folder}/pids"), pytest.raises(KeyboardInterrupt):
        bench.connection.run(["sh", "-c", script], timeout_s=LONG_S)
    pids = bench.connection.run(["cat", f"{folder}/pids"], timeout_s=LONG_S).stdout.split()
    assert all(bench.ends(int(pid)) for pid in pids)


def test_the_home_folder_is_there_and_ours(bench: Bench) -> None:
    home = bench.connection.home()
    assert home.startswith("/")
    bench.connection.run(["test", "-d", home, "-a", "-w", home], timeout_s=LONG_S)


def _read_exactly(process: Process, size: int) -> bytes:
    data = b""
    while len(data) < size:
        chunk = process.read(size - len(data), timeout_s=LONG_S)
        assert chunk
        data += chunk
    return data
