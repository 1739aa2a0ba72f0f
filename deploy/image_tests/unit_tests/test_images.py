"""Each wrong setting of an image is reported."""

import unittest

from ..images import LABEL_PREFIX, VERSION, check_commands, check_configuration, check_labels
from ..report import Failed

CONFIGURATION = {"User": "65532:65532", "StopSignal": "SIGTERM", "Entrypoint": ["/usr/local/bin/passbook"]}
LABELS = {"title": "passbook", "version": VERSION, "description": "The tool", "vendor": "Passbook",
          "licenses": "Apache-2.0", "revision": "0" * 40}


class Configuration(unittest.TestCase):
    def check(self, **changes: object) -> None:
        check_configuration("image", "passbook", CONFIGURATION | changes)

    def test_the_expected_configuration_passes(self) -> None:
        self.check()

    def test_each_wrong_setting_fails(self) -> None:
        for wrong in ({"User": None}, {"User": "0:0"}, {"StopSignal": "SIGKILL"}, {"Entrypoint": ["/bin/sh"]},
                      {"Cmd": ["dev"]}):
            with self.subTest(wrong), self.assertRaises(Failed):
                self.check(**wrong)


class Labels(unittest.TestCase):
    def check(self, **changes: str) -> None:
        check_labels("image", "passbook", {LABEL_PREFIX + key: value for key, value in (LABELS | changes).items()})

    def test_the_expected_labels_pass(self) -> None:
        for revision in ("0" * 40, "0" * 40 + "-dirty", "unknown"):
            self.check(revision=revision)

    def test_each_wrong_label_fails(self) -> None:
        for wrong in ({"title": "account-service"}, {"version": "0.0.0"}, {"description": ""}, {"vendor": ""},
                      {"licenses": ""}, {"revision": "main"}):
            with self.subTest(wrong), self.assertRaises(Failed):
                self.check(**wrong)


class Commands(unittest.TestCase):
    def test_a_program_for_operations_passes(self) -> None:
        check_commands("image", "Commands:\n  migrate  Migrate the development databases\n  dlq      Dead letters\n")

    def test_a_command_for_development_fails(self) -> None:
        with self.assertRaises(Failed):
            check_commands("image", "Commands:\n  dev      Run the whole system\n  dlq      Dead letters\n")
