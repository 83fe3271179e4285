"""A piece of work done in any process: what came of it, or why nothing did, as text."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from typing import TypeVar

import attrs

from ptactors.campaign.single import single_error
from ptactors.errors import ModelError, PtactorsError, UsageError

T = TypeVar("T")


@attrs.frozen
class Failure:
    """A piece that raised, as text: exceptions with arguments of their own do not survive the way between processes."""

    internal: bool
    text: str


def attempt(work: Callable[[], T], what: str, where: Callable[[], str]) -> T | Failure:
    """Do it. Never raises but for an interrupt.

    ``what`` says which piece it was where the user made a mistake, ``where`` tells all about it where ptactors did.
    """
    try:
        with single_error():
            return work()
    except ModelError:
        return Failure(True, f"{where()}\n{traceback.format_exc()}")
    except PtactorsError as error:
        return Failure(False, f"{what}: {error}")
    except Exception:
        return Failure(True, f"{where()}\n{traceback.format_exc()}")


def checked(piece: T | Failure) -> T:
    """The piece. Raises ModelError for what is a bug in ptactors, UsageError for what is not."""
    if isinstance(piece, Failure):
        raise ModelError(piece.text) if piece.internal else UsageError(piece.text)
    return piece
