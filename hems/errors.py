"""The errors of `hems/`.

HemsError
├── DataError        a file of measurements is not as it must be; says where
├── ConfigError      a device, a home or an input that cannot be, with what would be right
├── AgentError       an agent failed or answered what no market takes; the slot is the grid's
├── SolverError      HiGHS is missing, failed, or answered no numbers; the rule plans instead
└── InvariantError   a promise of this package to itself is broken: a bug, never the user's doing
"""


class HemsError(Exception):
    """Something in the home energy management system is not as it must be."""


class DataError(HemsError):
    """A file of measurements cannot be used. The text is one line: file, place, what, remedy."""


class ConfigError(HemsError, ValueError):
    """A setting or argument outside what is possible. A ValueError, so that decoders pass it on."""


class AgentError(HemsError):
    """An agent raised, or its answer cannot be meant. The text names the agent."""


class SolverError(HemsError):
    """The solver is not there, raised, or its answer is no plan. `Planner` goes on by the rule."""


class InvariantError(HemsError):
    """An energy balance or a state that cannot be; carrying on would settle wrong numbers."""
