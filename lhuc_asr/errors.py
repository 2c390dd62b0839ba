"""Every mistake that a user can make, as one class each.

Each class is also the builtin that a Python programmer expects, so library code may be used without knowing this file.
The text of an error says what was asked, what was found and what is possible, in one line.
"""

from __future__ import annotations

from collections.abc import Sequence


class LhucError(Exception):
    """A mistake of the user's, told in one line; the commands print it and exit with 2.

    The line is the first argument. Subclasses hand what else they know to ``super().__init__`` behind it, so that an
    error comes whole out of a worker process.
    """

    def __str__(self) -> str:
        return str(self.args[0]) if self.args else ""


class ConfigError(LhucError, ValueError):
    """A setting has a value that cannot work."""


class DataError(LhucError, ValueError):
    """A data directory, manifest, lexicon or language model on disk is wrong."""


class AudioError(LhucError, ValueError):
    """A sound file cannot be used."""


class SpeakerError(LhucError, LookupError):
    """A speaker is unknown or has no usable speech."""


class ModelError(LhucError, ValueError):
    """A model directory is incomplete, altered or of another format."""


class SiteError(LhucError, ValueError):
    """A layer cannot carry LHUC scales, or a pattern names no layer."""


class GateError(LhucError, ValueError):
    """What a gate is given does not fit it."""


class FoldError(LhucError, ValueError):
    """Scales cannot become part of a net's weights, or the exported net gives other numbers."""


class ProfileError(LhucError, ValueError):
    """A profile is missing, damaged, of a newer format, or belongs to another model."""


class AlignmentError(LhucError, ValueError):
    """Speech and words cannot be aligned."""


class DecodingError(LhucError, RuntimeError):
    """The search found no path, or the graph does not fit the model."""


class WorkerError(LhucError, RuntimeError):
    """A worker process died, for example killed for want of memory."""


class DependencyError(LhucError, ImportError):
    """A package is missing or cannot be loaded; the text names the remedy."""


def first_few(names: Sequence[str], *, count: int = 5) -> str:
    """The first names and how many more there are, for a message.

    Example:
        >>> first_few(["'a'", "'b'", "'c'"], count=2)
        "'a', 'b' and 1 more"
    """
    more = f" and {len(names) - count} more" if len(names) > count else ""
    return ", ".join(names[:count]) + more


def nearest(asked: str, known: list[str], *, count: int = 3) -> str:
    """The known names most like the one that was asked for, quoted, for the end of an error message."""
    import difflib

    close = difflib.get_close_matches(asked, known, n=count, cutoff=0.0)
    return ", ".join(repr(name) for name in close) or "none"
