"""Instructions: question and answer data in the forms users have it, as conversations."""

from tasks.instructions.sets import InstructionSet, InstructionsSpec
from tasks.instructions.stage import read_conversations

__all__ = ["InstructionSet", "InstructionsSpec", "read_conversations"]
