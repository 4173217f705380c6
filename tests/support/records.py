"""What has happened, as tests note it: the ends of calls, and what was logged."""

import logging


class Outcomes(list):
    """Makes callbacks that note what they are given."""

    def taker(self, name):
        return lambda *values: self.append((name, values))

    def error_taker(self, name):
        def done(*, error=None, **named):
            self.append((name, type(error)))

        return done


def warnings_of(caplog):
    """Return the messages that were logged as warnings or worse."""
    return [record.message for record in caplog.records if record.levelno >= logging.WARNING]
