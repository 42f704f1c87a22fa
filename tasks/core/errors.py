"""The five ways a run can fail, and the exit code each one gives.

In: nothing. Out: exception types. Invariant: only `TransientError` is ever retried, and every message says what
failed, the value, where it came from and what to do.
"""


class PipelineError(Exception):
    """Base of all errors Textmill raises on purpose.

    Attributes:
        exit_code: Exit status of the command line when the error ends a run.
    """

    exit_code = 1


class RecipeError(PipelineError):
    """The recipe or a file it names is wrong: the user mends it."""

    exit_code = 2


class GateError(PipelineError):
    """A quality check or the evaluation said no; the report that explains it is committed."""

    exit_code = 3


class ContractError(PipelineError):
    """An artifact is not what the stage needs: damaged, of another kind, or bound to another tokenizer."""

    exit_code = 4


class StageError(PipelineError):
    """A stage broke its own promise: a defect of Textmill or of a library it calls."""

    exit_code = 5


class TransientError(PipelineError):
    """Network, lock, preemption, a killed child: the only error that is retried."""

    exit_code = 6
