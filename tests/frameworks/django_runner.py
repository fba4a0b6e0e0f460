"""Django's test runner, that also writes what became of each test to the file $RESULTS, a line each."""

import os
import unittest

from django.test.runner import DiscoverRunner


class Result(unittest.TextTestResult):
    def say(self, outcome, test):
        with open(os.environ["RESULTS"], "a") as results:
            print(outcome, test.id(), sep="\t", file=results)

    def addSuccess(self, test):
        super().addSuccess(test)
        self.say("passed", test)

    def addExpectedFailure(self, test, error):
        super().addExpectedFailure(test, error)
        self.say("passed", test)

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.say("skipped", test)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.say("failed", test)

    def addError(self, test, error):
        super().addError(test, error)
        self.say("failed", test)

    def addUnexpectedSuccess(self, test):
        super().addUnexpectedSuccess(test)
        self.say("failed", test)

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error is not None:
            self.say("failed", test)


class Runner(DiscoverRunner):
    def get_resultclass(self):
        return Result
