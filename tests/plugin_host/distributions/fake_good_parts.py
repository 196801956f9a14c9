# SPDX-License-Identifier: MIT
"""The code behind the records of fake_good."""

from pyemu.errors import ConfigError


class Widget:
    pass


def build(machine):
    pass


def configure(parser):
    parser.add_argument("--fail")


def run(args):
    if args.fail == "error":
        raise ConfigError("greet: it was asked to\nfail")
    if args.fail == "bug":
        raise ZeroDivisionError("a bug")
    if args.fail == "interrupt":
        raise KeyboardInterrupt
    print("hello")
    return 0
