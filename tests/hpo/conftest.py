"""The fixtures of these tests."""

from sweep_project import project as project
