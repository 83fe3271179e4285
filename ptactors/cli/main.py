"""The command ``ptactors``: its subcommands by name, and what becomes of errors.

Subcommands are imported when they are called, so that ``--help``, ``list``, ``check`` and ``log`` start fast and never import
trio.
"""

from __future__ import annotations

import importlib
import io
import os
import platform
import shlex
import signal
import sys
import traceback
import warnings
from collections.abc import Sequence
from types import FrameType

import click
from click.shell_completion import shell_complete

from ptactors import __version__
from ptactors.errors import IncompatibleRecording, ModelError, PtactorsError, ReplayDivergence, WorkerLost

HELD, VIOLATED, USAGE, INCONCLUSIVE, DIVERGED, INTERNAL, INTERRUPTED = 0, 1, 2, 3, 4, 70, 130
"""Exit codes."""
_BROKEN_PIPE = 141
COMPLETION_VARIABLE = "_PTACTORS_COMPLETE"
"""Environment variable by which completion scripts ask."""

COMMANDS = {
    "run": ("ptactors.cli.run", "Run scenarios and judge their expectations."),
    "stress": ("ptactors.cli.stress", "Run random operation mixes and many seeds, and tell what they covered."),
    "prove": ("ptactors.cli.prove", "Search small scenarios exhaustively."),
    "replay": ("ptactors.cli.replay", "Make a recorded schedule again, step by step."),
    "shrink": ("ptactors.cli.shrink", "Make a failing run and its scenario as small as possible."),
    "explain": ("ptactors.cli.explain", "Tell what a hazard hangs on, and what led to an entry, a table, a frame or a lock."),
    "diff": ("ptactors.cli.diff", "Tell the first step where two runs part, and why."),
    "step": ("ptactors.cli.step", "Choose the next actor by hand, see what changes, undo."),
    "check": ("ptactors.cli.check", "Read scenario files and report every error with its position."),
    "list": ("ptactors.cli.listing", "List scenarios, operations, hazards, knobs, presets and more."),
    "rule": ("ptactors.cli.rule", "Explain a hazard, a knob, a preset, an operation, a scenario or a word."),
    "log": ("ptactors.cli.logs", "Work with saved logs."),
    "report": ("ptactors.cli.report", "Make an HTML page of a run or of a campaign."),
    "host": ("ptactors.cli.host", "Hold the model against a real kernel: the same operations on both."),
    "bench": ("ptactors.cli.bench", "Measure the explorer itself."),
    "schema": ("ptactors.cli.schema", "Print the JSON Schema of scenario files or of the --json document."),
    "completion": ("ptactors.cli.completion", "Print the completion script for a shell."),
}
"""Subcommand -> module with ``command``, and its line in the help."""


class LazyGroup(click.Group):
    """A group whose subcommands are imported when they are wanted; the help needs none of them."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Every subcommand, in the order of the table."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one subcommand; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(COMMANDS[cmd_name][0]).command
        return command

    def resolve_command(self, ctx: click.Context, args: list[str]) -> tuple[str | None, click.Command | None, list[str]]:
        """An unknown name gets the nearest known one."""
        name = args[0]
        if name not in COMMANDS and not name.startswith("-"):
            from ptactors.scenario.hints import suggest

            raise click.UsageError(f"no command {name!r}; {suggest(name, COMMANDS)}", ctx)
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of subcommands, without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="ptactors", message="%(prog)s %(version)s")
def cli() -> None:
    """Explore races between page-table reclaim, TLB flushes and RCU in a model of Linux on x86_64.

    \b
    Exit codes: 0 held, 1 violated, 2 usage or scenario error, 3 inconclusive,
    4 replay diverged, 70 internal error, 130 interrupted.
    """


def invoke(arguments: Sequence[str]) -> int:
    """Run one command line; every error becomes a sentence on stderr and an exit code."""
    try:
        return _dispatch(arguments)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    except click.ClickException as error:
        error.show()
        return USAGE
    except click.Abort:
        return _say("interrupted", INTERRUPTED)
    except KeyboardInterrupt as stop:
        return _say(interruption(stop), INTERRUPTED)
    except BrokenPipeError:
        return _reader_is_gone()
    except (ReplayDivergence, IncompatibleRecording) as error:
        return _say(f"error: {error}", DIVERGED)
    except ModelError as error:
        return _internal(str(error) if "Traceback" in str(error) else traceback.format_exc())
    except PtactorsError as error:
        return _say(_user_text(error), USAGE)
    except OSError as error:
        return _say(f"error: {error.filename + ': ' if error.filename else ''}{error.strerror or error}", USAGE)
    except Exception as error:
        if type(error).__name__ == "BrokenProcessPool":  # concurrent.futures is not loaded for the sake of this line
            return _say(interruption(WorkerLost()), INTERRUPTED)
        return _internal(traceback.format_exc())


def _dispatch(arguments: Sequence[str]) -> int:
    """What click's own ``main`` does, without its exit code for a broken pipe, which is that of a violation."""
    instruction = os.environ.get(COMPLETION_VARIABLE)
    if instruction:
        return shell_complete(cli, {}, "ptactors", COMPLETION_VARIABLE, instruction)
    with cli.make_context("ptactors", list(arguments)) as context:
        code = cli.invoke(context)
    if sys.stdout is not None:
        sys.stdout.flush()
    return code if isinstance(code, int) else HELD


def _reader_is_gone() -> int:
    """As if SIGPIPE had ended the process; the flush at exit must not complain again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.__stdout__.fileno() if sys.__stdout__ else 1)
    return _BROKEN_PIPE


def _user_text(error: PtactorsError) -> str:
    """Diagnostics stand for themselves; a sentence gets ``error:`` in front."""
    return str(error) if getattr(error, "diagnostics", None) else f"error: {error}"


def interruption(stop: KeyboardInterrupt) -> str:
    """What is said of an interrupt: ``interrupted``, and by what if it was not a key."""
    return f"interrupted: {stop}" if str(stop) else "interrupted"


def _say(text: str, code: int) -> int:
    print(text, file=sys.stderr)
    return code


def _internal(trace: str) -> int:
    command = shlex.join(["ptactors", *sys.argv[1:]])
    return _say(
        f"{trace.rstrip()}\n\n"
        "internal error: this is a bug in ptactors, not in your scenario. Please report it with all of the above and:\n"
        f"  ptactors {__version__}, Python {platform.python_version()}, {platform.platform()}\n"
        f"  command: {command}\n"
        "  the scenario file, if it is not one of those that come with ptactors",
        INTERNAL,
    )


def _terminated(number: int, _: FrameType | None) -> None:
    """A time limit of timeout(1) or of a CI job is an interrupt too; they may send the signal twice, so once is enough.

    It goes on as a Ctrl-C, since trio lets that one in only where it does no harm.
    """
    signal.signal(number, signal.SIG_IGN)
    signal.raise_signal(signal.SIGINT)


def _mend_streams() -> None:
    """A closed stream swallows what is written to it; one that cannot spell a character spells it as an escape."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  # until the process ends
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Entry point of the command ``ptactors``."""
    _mend_streams()
    if signal.getsignal(signal.SIGINT) is signal.SIG_DFL:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    warnings.filterwarnings("ignore", "coroutine '.*' was never awaited", RuntimeWarning)  # of actors, after an interrupt
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGTERM, _terminated)
    sys.exit(invoke(sys.argv[1:]))
