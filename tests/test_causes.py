"""The table of hangup causes."""

from twisted.trial.unittest import SynchronousTestCase

from plivotx.causes import CAUSES, NAMES, q850


class Causes(SynchronousTestCase):
    def test_have_one_number_each(self):
        self.assertEqual(len(NAMES), len(CAUSES))
        self.assertTrue(all(CAUSES[name] == number for number, name in NAMES.items()))

    def test_of_freeswitch_alone_count_as_normal_clearing(self):
        for cause, number in (
            ("USER_BUSY", 17),
            ("INTERWORKING", 127),
            ("ORIGINATOR_CANCEL", 16),
            ("ALLOTTED_TIMEOUT", 16),
            ("WHATEVER", 16),
        ):
            self.assertEqual(q850(cause), number, cause)
