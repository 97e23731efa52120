"""The errors of `testnet/chaos/`. All are for a person: one line, before anything is touched.

ChaosError
├── ScenarioError      the scenario is unreadable, contradicts itself, or does not fit the grid
├── PrivilegeError     what the scenario asks for cannot be done here; the line says what is missing
├── TargetError        the grid cannot be started, reached or disturbed
└── UndoError          something that was done could not be undone
"""

from node.errors import StartError


class ChaosError(StartError):
    """The scenario cannot run."""


class ScenarioError(ChaosError):
    """The scenario is unreadable, contradicts itself, or does not fit the grid."""


class PrivilegeError(ChaosError):
    """What the scenario asks for cannot be done here."""


class TargetError(ChaosError):
    """The grid cannot be started, reached or disturbed."""


class UndoError(ChaosError):
    """Something that was done could not be undone."""
