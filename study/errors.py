"""What can go wrong in a study."""


class StudyError(Exception):
    """Base of this room's errors: one sentence that says what is wrong and what would be right."""


class SettingError(StudyError):
    """An option or a setting that cannot be meant."""


class DataError(StudyError):
    """A file of measurements that a study cannot be made of."""


class OutputError(StudyError):
    """A directory that results cannot be written to."""


class InvariantError(StudyError):
    """The study itself is wrong; its figures would be, too."""
