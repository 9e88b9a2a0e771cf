"""What can go wrong in front of a user, each with the exit code of the commands.

0 done; 1 failure at run time; 2 usage; 3 data missing or corrupt; 4 the device asked for is unusable;
5 training diverged; 130 and 143 after SIGINT and SIGTERM. A command prints the message as one line, without a
traceback, and exits with `exit_code`. The library raises these; ValueError stays the error of a wrong argument.
"""


class AlikitError(Exception):
    """A failure at run time that the user can act on (a full disk, a folder that cannot be written)."""

    exit_code = 1


class UsageError(AlikitError):
    """Options that contradict each other, or that this machine or this run cannot honour."""

    exit_code = 2


class DataError(AlikitError):
    """A data file or a checkpoint that is missing, truncated, foreign or corrupt."""

    exit_code = 3


class DeviceError(AlikitError):
    """The device asked for cannot be used."""

    exit_code = 4


class DivergedError(AlikitError):
    """A loss or a gradient is not finite."""

    exit_code = 5
