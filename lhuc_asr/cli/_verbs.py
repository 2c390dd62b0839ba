"""Commands whose first word says what is done, each such verb with flags of its own."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence

from lhuc_asr.cli._common import UsageError, parse_arguments


def run_verb(
    argv: Sequence[str] | None,
    verbs: Mapping[str, Callable[[Sequence[str]], int]],
    parser: argparse.ArgumentParser,
    *,
    says: str,
) -> int:
    """Hand the other words to the verb, and give its exit code.

    Args:
        argv: the command line; ``--debug`` may stand before the verb.
        verbs: name -> what it does.
        parser: of the command up to the verb, for ``--help``.
        says: what the first word says, for the complaint.

    Raises:
        UsageError: the first word is no verb.
    """
    arguments = list(argv or ())
    while arguments[:1] == ["--debug"]:
        arguments = [*arguments[1:], "--debug"]
    if arguments and arguments[0] in verbs:
        return verbs[arguments[0]](arguments[1:])
    parse_arguments(parser, arguments)
    raise UsageError(f"the first word says what is {says}: {', '.join(verbs)} (see {parser.prog} --help)")
