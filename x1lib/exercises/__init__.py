"""What the notebooks' exercises ask for, one module a notebook, away from the reader's eyes."""

from x1lib.exercises.key import ExerciseError, Key, key_of

__all__ = ["ExerciseError", "Key", "key_of"]
