"""The proof that no image is kept reads strace's output: what it takes from each kind of line."""

from tests.campaign.boxed_lane import parse_trace

TRACE = """\
81 execve("/usr/bin/python3", ["python3", "-m", "edge"], 0x7ffd /* 5 vars */) = 0
81 execve("/opt/bin/python3", ["python3"], 0x7ffd /* 5 vars */) = -1 ENOENT (No such file or directory)
81 openat(AT_FDCWD</>, "/etc/ld.so.cache", O_RDONLY|O_CLOEXEC) = 3</etc/ld.so.cache>
81 openat(AT_FDCWD</state>, "a", O_WRONLY|O_CREAT|O_EXCL|O_CLOEXEC, 0666) = 5</state/a>
82 openat(AT_FDCWD</state>, "/state/b", O_RDWR|O_CREAT|O_CLOEXEC, 0644 <unfinished ...>
81 socket(AF_INET, SOCK_STREAM|SOCK_CLOEXEC, IPPROTO_IP) = 6<TCP:[4242]>
82 <... openat resumed>)                  = 7</state/b>
83 openat(AT_FDCWD</>, "/tmp/leak", O_WRONLY|O_CREAT|O_TRUNC, 0666) = -1 EACCES (Permission denied)
81 openat(AT_FDCWD</>, "/dev/null", O_RDWR) = 8</dev/null<char 1:3>>
81 connect(6<TCP:[4242]>, {sa_family=AF_INET, sin_port=htons(8883), sin_addr=inet_addr("192.0.2.1")}, 16) = -1 EAGAIN
84 connect(9, {sa_family=AF_UNIX, sun_path="/var/run/nscd/socket"}, 110) = -1 ENOENT (No such file or directory)
84 sendto(9, "", 0, {sa_family=AF_INET6, sin6_port=htons(53), inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = 1
84 listen(9<UNIX-STREAM:[4343]>, 4) = 0
84 symlink("a", "/state/c") = 0
84 +++ exited with 0 +++
"""


def test_files_opened_for_writing_are_named_as_the_kernel_resolved_them() -> None:
    assert parse_trace(TRACE).written == {"/state/a", "/state/b", "/dev/null"}


def test_attempts_that_the_kernel_refused_are_kept_apart() -> None:
    assert parse_trace(TRACE).refused == {"/tmp/leak"}


def test_every_address_spoken_to_is_a_destination_also_when_nobody_answered() -> None:
    assert parse_trace(TRACE).destinations == {
        "INET 192.0.2.1:8883",
        "UNIX /var/run/nscd/socket",
        "INET6 2001:db8::1:53",
    }


def test_programs_that_were_run_sockets_and_other_ways_out_are_listed() -> None:
    trace = parse_trace(TRACE)
    assert trace.executed == ["/usr/bin/python3"]
    assert trace.other == {"socket AF_INET", "listen UNIX-STREAM", "symlink"}
