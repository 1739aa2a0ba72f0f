"""Each missing restriction of a process is reported."""

import pathlib
import unittest

from ..confinement import check_root, check_status, memory_limit_files
from ..report import Failed

STATUS = {"Name": "passbook", "Uid": "65532\t65532\t65532\t65532", "Gid": "65532\t65532\t65532\t65532",
          "CapPrm": "0" * 16, "CapEff": "0" * 16, "CapBnd": "0" * 16, "CapAmb": "0" * 16,
          "NoNewPrivs": "1", "Seccomp": "2"}


class Status(unittest.TestCase):
    def check(self, **changes: str) -> None:
        check_status("pod", "".join(f"{key}:\t{value}\n" for key, value in (STATUS | changes).items()))

    def test_a_confined_process_passes(self) -> None:
        self.check()

    def test_each_missing_restriction_fails(self) -> None:
        some_rights = "00000000a80425fb"
        for wrong in ({"Uid": "65532\t0\t65532\t65532"}, {"Gid": "0\t0\t0\t0"}, {"CapPrm": some_rights},
                      {"CapEff": some_rights}, {"CapBnd": some_rights}, {"CapAmb": some_rights},
                      {"NoNewPrivs": "0"}, {"Seccomp": "0"}):
            with self.subTest(wrong), self.assertRaises(Failed):
                self.check(**wrong)


class Files(unittest.TestCase):
    def test_the_root_must_be_read_only(self) -> None:
        proc = "91 90 0:50 / /proc rw,nosuid - proc proc rw"
        check_root("pod", f"{proc}\n90 80 0:42 / / ro,relatime - overlay overlay rw")
        with self.assertRaises(Failed):
            check_root("pod", f"{proc}\n90 80 0:42 / / rw,relatime - overlay overlay rw")

    def test_memory_limits_are_read_from_either_version_of_cgroups(self) -> None:
        self.assertEqual(memory_limit_files("5:memory:/a\n3:cpu,cpuacct:/a\n"),
                         [pathlib.Path("/sys/fs/cgroup/memory/a/memory.limit_in_bytes")])
        self.assertEqual(memory_limit_files("0::/a\n"), [pathlib.Path("/sys/fs/cgroup/a/memory.max")])
