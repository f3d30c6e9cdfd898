"""The second wall: with the language policy switched off, what is left to a cell is its own memory.

Cells here are plain Python in a confined worker. All attempts are checked by what the operating system answers.
"""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
import textwrap
import time
from pathlib import Path

import pytest

from rlm_adapters.errors import InputError, IsolationError, SandboxError
from rlm_adapters.sandbox import HostFunction, Sandbox, SandboxLimits
from rlm_adapters.sandbox.hardening.confinement import ALL_LAYERS
from rlm_adapters.sandbox.hardening.seccomp import ALLOWED, ALLOWED_TO_FORK, build
from rlm_adapters.sandbox.hardening.syscalls import ARCHITECTURES
from rlm_adapters.sandbox.host.zygotes import SharedZygote

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Landlock and seccomp are Linux's")
CANARY = "sk-canary-5cf1"

REPORT = """
import ctypes
from rlm_adapters.sandbox.hardening.linux import _libc
LIBC = _libc()

def report(attempt):
    try:
        result = attempt()
    except BaseException as error:
        print("refused", type(error).__name__, error)
    else:
        print("SUCCEEDED", repr(result)[:200])

def raw(number, *arguments):
    result = LIBC.syscall(ctypes.c_long(number), *[a if not isinstance(a, int) else ctypes.c_ulong(a) for a in arguments])
    if result < 0:
        raise OSError(ctypes.get_errno(), "errno")
    return result
"""


@pytest.fixture(scope="module")
def sandbox():
    os.environ["OPENAI_API_KEY"] = CANARY
    try:
        with Sandbox(_policy_off=True, limits=SandboxLimits(cpu_seconds=5, wall_seconds=20)) as sandbox:
            if sandbox.isolation != "os":
                pytest.skip(f"this machine confines by {sandbox.report.layers} only: {sandbox.report.notes}")
            yield sandbox
    finally:
        del os.environ["OPENAI_API_KEY"]


@pytest.fixture
def attempt(sandbox):
    def run(expression: str, setup: str = "") -> str:
        with sandbox.open() as session:
            done = session.run(f"{REPORT}\n{textwrap.dedent(setup)}\nreport(lambda: {expression})")
        assert done.error is None, done.error
        return done.stdout

    return run


@pytest.mark.parametrize(
    "expression",
    [
        "open('/etc/passwd').read()",
        "open('/tmp/rlm-hardening-test', 'w')",
        "os.open('/etc/passwd', os.O_RDONLY)",
        "os.open('/', os.O_PATH)",
        "os.open('/tmp', os.O_TMPFILE | os.O_RDWR)",
        "os.listdir('/')",
        "list(os.scandir('.'))",
        "glob.os.listdir('/proc')",
        "os.stat('/etc/passwd')",
        "os.lstat('/etc/passwd')",
        "os.fstat(0)",
        "os.statvfs('/')",
        "os.readlink('/proc/self/exe')",
        "os.getcwd()",
        "os.chdir('/')",
        "os.mkdir('/tmp/rlm-hardening-test')",
        "os.unlink('/etc/passwd')",
        "os.rename('/etc/passwd', '/etc/passwd2')",
        "os.symlink('/etc/passwd', '/tmp/rlm-hardening-link')",
        "os.chmod('/tmp', 0o777)",
        "os.utime('/tmp')",
        "os.setxattr('/tmp', 'user.x', b'y')",
        "os.mkfifo('/tmp/rlm-hardening-fifo')",
        "os.truncate('/etc/passwd', 0)",
        "os.memfd_create('x')",
        "mmap.mmap(0, 10)",
    ],
)
def test_no_file_is_read_written_listed_or_looked_up(attempt, expression):
    assert attempt(expression, "import os, glob, mmap").startswith("refused")


def test_the_existence_of_a_file_cannot_be_probed(attempt):
    assert attempt("(os.path.exists('/etc/passwd'), os.access('/etc/passwd', os.R_OK))", "import os") == (
        "SUCCEEDED (False, False)\n"
    )


@pytest.mark.parametrize(
    "expression",
    [
        "socket.socket(socket.AF_INET, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_INET, socket.SOCK_DGRAM)",
        "socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)",
        "socket.socket(socket.AF_NETLINK, socket.SOCK_RAW)",
        "socket.socketpair()",
        "socket.create_connection(('127.0.0.1', {port}))",
        "socket.create_server(('127.0.0.1', 0))",
    ],
)
def test_no_socket_is_made_nor_a_listening_server_reached(attempt, expression):
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0)
        expression = expression.replace("{port}", str(server.getsockname()[1]))
        assert attempt(expression, "import socket").startswith("refused")
        with pytest.raises(BlockingIOError):
            server.accept()


@pytest.mark.parametrize(
    "expression",
    [
        "os.fork()",
        "os.forkpty()",
        "os.posix_spawn('/bin/true', ['true'], {})",
        "os.execv('/bin/true', ['true'])",
        "subprocess.run(['/bin/true'])",
        "os.system('true') and (_ for _ in ()).throw(OSError('no shell was started'))",
        "os.pipe()",
        "os.setsid()",
        "os.setpgid(0, 0)",
        "os.nice(-5)",
        "os.setpriority(os.PRIO_PROCESS, {host}, 19)",
        "os.sched_setaffinity({host}, [0])",
        "os.sched_getaffinity(0)",
        "os.sched_setscheduler({host}, os.SCHED_BATCH, os.sched_param(0))",
        "os.setuid(0)",
        "os.uname()",
    ],
)
def test_no_process_is_started_or_changed(attempt, expression):
    expression = expression.replace("{host}", str(os.getpid()))
    assert attempt(expression, "import os, subprocess").startswith("refused")


@pytest.mark.parametrize(
    "expression",
    [
        "os.kill({host}, 0)",
        "os.kill(os.getppid(), 9)",
        "os.kill({sibling}, 9)",
        "os.kill(-1, 9)",
        "os.killpg({host}, 9)",
        "os.pidfd_open({host})",
        "fcntl.fcntl(0, fcntl.F_SETOWN, {host})",
    ],
)
def test_no_signal_reaches_another_process(sandbox, attempt, expression):
    with sandbox.open() as sibling:
        assert sibling.run("import os; print(os.getpid())").error is None
        pid = sibling.run("print(os.getpid())").stdout.strip()
        expression = expression.replace("{host}", str(os.getpid())).replace("{sibling}", pid)
        assert attempt(expression, "import os, signal, fcntl").startswith("refused")
        assert sibling.run("print(os.getpid())").stdout.strip() == pid


@pytest.mark.skipif(platform.machine() != "x86_64", reason="numbers of x86_64")
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("ptrace 101", "16, {host}, 0, 0"),
        ("process_vm_readv 310", "{host}, 0, 0, 0, 0, 0"),
        ("kcmp 312", "{host}, {host}, 0, 0, 0"),
        ("shmget 29", "0, 4096, 0o1600"),
        ("semget 64", "0, 1, 0o1600"),
        ("msgget 68", "0, 0o1600"),
        ("mq_open 240", "0, 0o100, 0o600, 0"),
        ("inotify_init1 294", "0"),
        ("fanotify_init 300", "0, 0"),
        ("memfd_secret 447", "0"),
        ("io_uring_setup 425", "8, 0"),
        ("bpf 321", "0, 0, 0"),
        ("userfaultfd 323", "0"),
        ("perf_event_open 298", "0, 0, -1 % 2**64, -1 % 2**64, 0"),
        ("unshare 272", "0x10000000"),
        ("setns 308", "0, 0"),
        ("mount 165", "0, 0, 0, 0, 0"),
        ("open_tree 428", "0, 0, 0"),
        ("fsopen 430", "0, 0"),
        ("chroot 161", "0"),
        ("keyctl 250", "0, 0, 0"),
        ("add_key 248", "0, 0, 0, 0, 0"),
        ("personality 135", "0x0400000"),
        ("prctl 157", "4, 1"),
        ("arch_prctl 158", "0x1003, 0"),
        ("prlimit64 302", "0, 0, 0, 0"),
        ("setrlimit 160", "9, 0"),
        ("getrlimit 97", "9, 0"),
        ("rt_sigqueueinfo 129", "{host}, 9, 0"),
        ("rt_tgsigqueueinfo 297", "{host}, {host}, 9, 0"),
        ("tgkill 234", "{host}, {host}, 9"),
        ("tkill 200", "{host}, 9"),
        ("pidfd_send_signal 424", "0, 9, 0, 0"),
        ("sendmsg 46", "{channel}, 0, 0"),
        ("sendto 44", "{channel}, 0, 0, 0, 0, 0"),
        ("recvmsg 47", "{channel}, 0, 0"),
        ("shutdown 48", "{channel}, 2"),
        ("dup 32", "0"),
        ("ioctl 16", "0, 0x5401, 0"),
        ("fcntl 72", "{channel}, 0, 0"),
        ("sysinfo 99", "0"),
        ("getdents64 217", "0, 0, 0"),
        ("statx 332", "0, 0, 0, 0, 0"),
        ("name_to_handle_at 303", "0, 0, 0, 0, 0"),
        ("modify_ldt 154", "0, 0, 0"),
        ("clone NEWUSER 56", "0x10000011, 0, 0, 0, 0"),
        ("clone plain 56", "17, 0, 0, 0, 0"),
        ("clone thread in a new namespace 56", "0x103d0f00, 0, 0, 0, 0"),
        ("clone3 435", "0, 88"),
        ("mmap exec 9", "0, 4096, 5, 0x22, 2**64 - 1, 0"),
        ("mmap write and exec 9", "0, 4096, 7, 0x22, 2**64 - 1, 0"),
        ("mprotect exec 10", "0, 0, 4"),
        ("pkey_mprotect 329", "0, 0, 4, 0"),
    ],
)
def test_a_raw_system_call_is_refused_before_it_looks_at_its_arguments(attempt, name, arguments):
    arguments = arguments.replace("{host}", str(os.getpid())).replace("{channel}", "3")
    said = attempt(f"raw({name.split()[-1]}, {arguments})")
    assert re.match(r"refused \w+ \[Errno (1|38)\]", said), said  # EPERM, or ENOSYS for clone3; not EFAULT or EINVAL


def test_memory_cannot_become_code(attempt):
    said = attempt("mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC)", "import mmap")
    assert said.startswith("refused PermissionError")


@pytest.mark.parametrize(
    "path", ["/proc/{parent}/environ", "/proc/{host}/mem", "/proc/self/environ", "/proc/self/maps"]
)
def test_proc_shows_nothing_of_the_host_or_of_itself(attempt, path):
    path = path.replace("{host}", str(os.getpid()))
    assert attempt(f"open('{path}'.replace('{{parent}}', '1')).read()").startswith("refused")


def test_the_environment_holds_nothing_of_the_hosts(attempt):
    setup = """
        import ctypes, os
        def block():
            libc = LIBC
            names = ctypes.POINTER(ctypes.c_char_p).in_dll(libc, "environ")
            seen, i = [], 0
            while names and names[i]:
                seen.append(names[i]); i += 1
            return dict(os.environ), seen
    """
    assert attempt("block()", setup) == "SUCCEEDED ({}, [])\n"


def test_no_key_of_the_host_is_anywhere_in_the_environment_that_the_zygote_was_started_with(sandbox):
    zygote = sandbox._zygote._current()._process.pid
    environment = Path(f"/proc/{zygote}/environ").read_bytes()
    assert CANARY.encode() not in environment
    assert b"PYTHONHASHSEED=0" in environment


def test_a_worker_has_no_descriptor_but_its_channel_and_the_null_device(sandbox):
    with sandbox.open(variables={"big": "x" * 1_000_000}, files={"f": b"data"}) as session:
        session.run("pass")
        pid = session._slot.worker.pid
        try:
            targets = {fd.name: str(fd.readlink()) for fd in Path(f"/proc/{pid}/fd").iterdir()}
        except PermissionError:
            pytest.skip("only root may look at a worker")
    assert len(targets) == 4
    assert {targets["0"], targets["1"], targets["2"]} == {"/dev/null"}
    assert sum(target.startswith("socket:") for target in targets.values()) == 1


def test_a_worker_cannot_gain_privileges_and_is_in_a_filter(sandbox):
    with sandbox.open() as session:
        status = Path(f"/proc/{session._slot.worker.pid}/status").read_text()
    fields = dict(line.split(":\t", 1) for line in status.splitlines() if ":\t" in line)
    assert fields["NoNewPrivs"] == "1"
    assert fields["Seccomp"] == "2"
    assert int(fields["CapEff"], 16) == 0
    assert fields["Threads"] == "1"
    assert "0" not in fields["Uid"].split()


def test_threads_and_the_clock_still_work(attempt):
    setup = """
        import threading, time, os
        def work():
            out = []
            threads = [threading.Thread(target=lambda i=i: (time.sleep(0.01), out.append(i))) for i in range(8)]
            [t.start() for t in threads]
            [t.join() for t in threads]
            return sorted(out), len(os.urandom(8)), time.time() > 0, time.monotonic() > 0
    """
    assert attempt("work()", setup) == "SUCCEEDED ([0, 1, 2, 3, 4, 5, 6, 7], 8, True, True)\n"


@pytest.fixture
def forking(sandbox):
    """A session whose worker may fork, to run ahead."""
    functions = [HostFunction(name="llm_query", effects=False)]
    with sandbox.open(functions=functions) as session:
        session.start(REPORT + "import os, time, socket, subprocess")
        yield session


def test_a_worker_that_runs_ahead_may_fork_and_nothing_else(forking):
    assert forking.start("pid = os.fork()\nif not pid: os._exit(7)\nprint(os.waitpid(pid, 0)[1] >> 8)").stdout == "7\n"
    for act in (
        "os.setsid()",
        "os.setpgid(0, 0)",
        "os.kill(os.getppid(), 9)",
        "subprocess.run(['/bin/true'])",
        "socket.socketpair()",
        "open('/etc/passwd')",
        "raw(56, 0x10000011, 0, 0, 0, 0)",
        "raw(56, 0x7C020011, 0, 0, 0, 0)",
        "raw(435, 0, 88)",
        "raw(272, 0x10000000)",
        "raw(157, 1, 0)",
        "raw(157, 4, 1)",
    ):
        assert forking.start(f"report(lambda: {act})").stdout.startswith("refused"), act


def test_copies_that_a_cell_made_end_with_its_session(forking):
    code = """
        pids = []
        for _ in range(3):
            pid = os.fork()
            if not pid:
                if not os.fork():
                    while True: pass
                while True: time.sleep(1)
            pids.append(pid)
        print(*pids)
    """
    pids = [int(pid) for pid in forking.start(textwrap.dedent(code)).stdout.split()]
    group = forking._slot.worker.pid
    assert {os.getpgid(pid) for pid in pids} == {group}
    forking.close()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            break
        time.sleep(0.02)
    else:
        pytest.fail("copies are still there")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a worker a user of its own")
def test_a_fork_bomb_ends_at_the_limit_of_the_workers_own_user(sandbox, forking):
    bomb = """
        made = 0
        try:
            for _ in range(2000):
                if not os.fork():
                    while True: time.sleep(1)
                made += 1
        except BlockingIOError:
            print(made)
    """
    assert 0 < int(forking.start(textwrap.dedent(bomb)).stdout) < 256
    with sandbox.open() as other:
        assert other.run("print(1)").stdout == "1\n"


def test_memory_is_limited(attempt):
    assert attempt("len(bytearray(4 << 30))").startswith("refused MemoryError")


@pytest.mark.parametrize("layer", ["landlock", "seccomp"])
def test_either_layer_alone_keeps_files_and_tcp_from_a_cell(layer):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with Sandbox(_policy_off=True, _layers=[layer]) as sandbox:
            if layer not in sandbox.report.layers:
                pytest.skip("not on this machine")
            assert sandbox.isolation == "process"
            with sandbox.open() as session:
                session.run(REPORT + "import os, socket")
                for act in (
                    "open('/etc/passwd')",
                    "os.listdir('/')",
                    f"socket.create_connection(('127.0.0.1', {port}))",
                    f"os.kill({os.getpid()}, 0)",
                ):
                    assert session.run(f"report(lambda: {act})").stdout.startswith("refused"), act


def test_this_machine_is_probed_by_trying():
    with Sandbox() as sandbox:
        report = sandbox.report
    assert (report.level == "os") == (report.layers == ALL_LAYERS)
    assert len(report.notes) == len(ALL_LAYERS) - len(report.layers)


def test_requiring_the_os_level_where_a_layer_is_missing_is_refused_with_the_reason(monkeypatch):
    hello = SharedZygote.hello
    without = {"layers": ["rlimits"], "notes": ["landlock: Function not implemented"]}
    monkeypatch.setattr(SharedZygote, "hello", lambda self: hello(self) | without)
    with pytest.raises(IsolationError, match="rlimits only: landlock: Function not implemented"):
        Sandbox(require="os")
    with Sandbox(require="process") as sandbox:
        assert sandbox.isolation == "process"


def test_an_unknown_level_is_refused():
    with pytest.raises(InputError, match="kernel"):
        Sandbox(require="kernel")


def test_a_worker_that_cannot_apply_a_layer_which_the_machine_has_is_not_used(monkeypatch):
    hello = SharedZygote.hello
    monkeypatch.setattr("rlm_adapters.sandbox.host.sandbox.ALL_LAYERS", (*ALL_LAYERS, "another"))
    monkeypatch.setattr(SharedZygote, "hello", lambda self: hello(self) | {"layers": [*ALL_LAYERS, "another"]})
    with Sandbox() as sandbox, pytest.raises(SandboxError, match="not confined"):
        sandbox.open()


def test_a_memory_limit_that_the_inputs_alone_exceed_is_refused_with_the_remedy():
    with Sandbox(limits=SandboxLimits(memory_bytes=1 << 20)) as sandbox, pytest.raises(SandboxError, match="give more"):
        sandbox.open()


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
@pytest.mark.parametrize("allow_fork", [False, True])
def test_the_filter_of_every_known_machine_can_be_built(machine, allow_fork):
    program = build(ARCHITECTURES[machine], allow_fork=allow_fork)
    assert 60 < len(program) < 150
    assert len(bytes(program)) == 8 * len(program)


@pytest.mark.parametrize("machine", sorted(ARCHITECTURES))
def test_every_machine_knows_all_calls_but_those_that_newer_ones_replace(machine):
    numbers = ARCHITECTURES[machine].numbers
    missing = {*ALLOWED, *ALLOWED_TO_FORK, "mmap", "mprotect", "clone", "clone3", "prctl", "seccomp"} - set(numbers)
    assert missing <= {"time", "poll", "select"}


@pytest.mark.parametrize(
    ("machine", "header"),
    [
        ("x86_64", "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        ("aarch64", "/usr/include/asm-generic/unistd.h"),
    ],
)
def test_numbers_of_system_calls_are_those_of_the_kernels_headers(machine, header):
    if not Path(header).exists():
        pytest.skip("the kernel's headers are not installed")
    defined = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", Path(header).read_text()))
    assert {name: int(defined[name]) for name in ARCHITECTURES[machine].numbers} == ARCHITECTURES[machine].numbers
