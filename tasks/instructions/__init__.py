"""Instructions: question and answer data, and preferences among answers, in the forms users have them, as conversations."""

from tasks.instructions.preferences import read_preferences
from tasks.instructions.sets import InstructionSet, InstructionsSpec, PreferencesSpec
from tasks.instructions.stage import read_conversations

__all__ = ["InstructionSet", "InstructionsSpec", "PreferencesSpec", "read_conversations", "read_preferences"]
